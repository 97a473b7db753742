/* A module whose file has been renamed: it still calls itself "good". */
#include "good.c"
