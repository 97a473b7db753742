/* Built for an ABI that does not exist yet. */
#define NAME "other_abi"
#define ABI 99
#include "good.c"
