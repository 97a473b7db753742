/*
 * From PostgreSQL's text output (DateStyle ISO, TimeZone UTC, bytea hex) to its binary send format, for the types that
 * pgprojector.h lists. Exact or refused: nothing is rounded.
 */
#ifndef PJ_WIRE_PGTEXT_H
#define PJ_WIRE_PGTEXT_H

#include "base/mem.h"
#include "pgprojector.h"

#include <stdbool.h>

/*
 * Converts `length` bytes of text into *value, its bytes in the arena (for PJ_TEXT and PJ_ANY: a copy of the text).
 * bytea: hex digits without the leading "\x" (wal2json's way) or with it. bool: "true"/"false" or "t"/"f".
 * Timestamps: years 4713 BC to 294276, up to six fractional digits, "BC", "infinity"; timestamptz with an offset.
 * Returns false where the text is not a value of the type.
 */
bool pj_pgtext_to_binary(enum pj_type type, const char *text, size_t length, struct pj_arena *arena,
                         struct pj_value *value);

#endif
