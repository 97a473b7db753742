/* The two clocks: one that never steps, for every timer; the wall's, for what people read. */
#ifndef PJ_BASE_CLOCK_H
#define PJ_BASE_CLOCK_H

#include <stdint.h>

uint64_t pj_clock_monotonic_us(void); /* microseconds since some fixed moment */
int64_t pj_clock_wall_us(void);       /* microseconds since 1970-01-01 00:00 UTC */

#endif
