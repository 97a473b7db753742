/* Positions in PostgreSQL's write-ahead log, in the server's notation (two hexadecimal halves: "16/B374D848"). */
#ifndef PJ_BASE_LSN_H
#define PJ_BASE_LSN_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t pj_lsn; /* 0 is no position */

enum { PJ_LSN_TEXT = 18 }; /* room for any LSN as text, with its NUL */

/* Reads "X/Y"; false where the whole text is not one. */
bool pj_lsn_parse(const char *text, pj_lsn *lsn);

/* Writes the LSN into `text` and returns it, so that it can stand in an argument list. */
const char *pj_lsn_format(pj_lsn lsn, char text[PJ_LSN_TEXT]);

/* The text of an LSN, alive to the end of the enclosing block. */
#define PJ_LSN(lsn) pj_lsn_format((lsn), (char[PJ_LSN_TEXT]){0})

#endif
