/* Texts for SQL and for people. */
#ifndef PJ_PG_QUOTE_H
#define PJ_PG_QUOTE_H

#include "base/buf.h"

/* A connection string without password, for people. The caller frees with pj_free. */
char *pj_conninfo_redacted(const char *url);

/* Appends an identifier, quoted ("odd ""name"""), or a string literal ('it''s'; with E'' where it has backslashes). */
void pj_quote_identifier(struct pj_buf *sql, const char *name);
void pj_quote_literal(struct pj_buf *sql, const char *text);

#endif
