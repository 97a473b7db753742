/* Something that is no projection module but exports the same name. */
#define NAME "wrong_magic"
#define MAGIC 0x12345678
#include "good.c"
