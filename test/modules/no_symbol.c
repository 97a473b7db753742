/* A shared object without pj_module. */
int some_other_function(void);

int some_other_function(void)
{
    return 1;
}
