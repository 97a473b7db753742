/* A module that wants to be linked against the host: RTLD_NOW finds that out at once. */
#define NAME "undefined_symbol"
#include "good.c"

int function_of_the_host(void);
int call_it(void);

int call_it(void)
{
    return function_of_the_host();
}
