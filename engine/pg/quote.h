/* Texts for SQL. */
#ifndef PJ_PG_QUOTE_H
#define PJ_PG_QUOTE_H

#include "base/buf.h"

#include <stdbool.h>

/* Appends an identifier, quoted ("odd ""name"""), or a string literal ('it''s'; with E'' where it has backslashes). */
void pj_quote_identifier(struct pj_buf *sql, const char *name);
void pj_quote_literal(struct pj_buf *sql, const char *text);

/* The longest name that a server keeps, in bytes; it cuts longer ones, in silence. */
enum { PJ_NAME_BYTES = 63 };

/* Whether a name, "table" or "schema.table", a part perhaps in double quotes, has a part that is longer. */
bool pj_name_is_long(const char *name);

#endif
