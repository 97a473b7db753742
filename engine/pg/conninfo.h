/*
 * Connection strings. Where one is written wrongly, part of the password may stand where something else belongs (an "@" or
 * "/" in it ends it too early); so nothing is quoted here of a string that looks like that.
 */
#ifndef PJ_PG_CONNINFO_H
#define PJ_PG_CONNINFO_H

/* A connection string without password, for people; "" where it cannot be told what is password. The caller frees with
 * pj_free. */
char *pj_conninfo_redacted(const char *url);

/* What is wrong with a connection string, to be said behind its name, or NULL; *remedy: what to do. Static storage. */
const char *pj_conninfo_fault(const char *url, const char **remedy);

/* The `options` that a connection string gives, or else PGOPTIONS, with `pinned` behind them: of settings named twice the
 * last one holds. The caller frees with pj_free. */
char *pj_conninfo_options(const char *url, const char *pinned);

#endif
