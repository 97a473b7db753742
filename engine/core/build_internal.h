/* What the files of core/build*.c share. */
#ifndef PJ_CORE_BUILD_INTERNAL_H
#define PJ_CORE_BUILD_INTERNAL_H

#include "core/build.h"

/* A row of pgprojector.projection, as far as it concerns a swap, with its table. */
struct pj_build_row {
    bool there; /* the row */
    char schema[64], table[64], state[16], version[24], digest[40];
    char kept_as[64]; /* the table is the kept one of a rollback that is under way: the name it had; else "" */
    char oid[16];     /* of the table; "0" where it is not there */
};

/* `suffix`: "", PJ_NEXT_NAME, PJ_KEPT_NAME. */
int pj_build_read_row(struct pj_session *session, const char *name, const char *suffix, struct pj_build_row *row,
                      struct pj_error *error);

/* Runs a statement with parameters and drops its result. */
int pj_build_run(struct pj_session *session, const char *sql, int count, const char *const *params,
                 struct pj_error *error);

/* Runs the statements that a query makes: one text a row. */
int pj_build_run_made(struct pj_session *session, const char *query, int count, const char *const *params,
                      struct pj_error *error);

/* RENAME of a table, in its schema. */
int pj_build_rename_table(struct pj_session *session, const char *schema, const char *from, const char *to,
                          struct pj_error *error);

/* Runs a round of what was noted until at most a last transaction's work is left; build_fill.c. */
int pj_build_catch_up(struct pj_build *build, struct pj_error *error);

/* build_carry.c: what goes along with the name. `former` may have no table: then there is nothing to do. */

/* PJ_ECONFIG where something cannot go along; it is named. */
int pj_build_check_obstacles(struct pj_session *session, const struct pj_build_row *former,
                             const struct pj_build_row *next, struct pj_error *error);

/* Storage parameters, settings of columns. */
int pj_build_carry_settings(struct pj_session *session, const struct pj_build_row *former,
                            const struct pj_build_row *next, struct pj_error *error);

/* Indexes and constraints that the new table lacks; those that cannot be are named in `log` (may be NULL). *made:
 * how many. */
int pj_build_carry_indexes(struct pj_session *session, const struct pj_build_row *former,
                           const struct pj_build_row *next, const struct pj_log *log, int *made,
                           struct pj_error *error);

/* Within the swap: whether all that can be has been carried. */
int pj_build_indexes_carried(struct pj_session *session, const struct pj_build_row *former,
                             const struct pj_build_row *next, bool *yes, struct pj_error *error);

/* Within the swap: owner, grants, comments. */
int pj_build_carry_identity(struct pj_session *session, const struct pj_build_row *former,
                            const struct pj_build_row *next, struct pj_error *error);

/* build_views.c: the views that read the former table. */

/* The columns of a list of them. */
enum { PJ_VIEW_LOCK, PJ_VIEW_DEFINITION, PJ_VIEW_OID, PJ_VIEW_NAME, PJ_VIEW_COLUMNS };

/* *views: to be freed with PQclear. */
int pj_build_read_views(struct pj_session *session, const struct pj_build_row *table, PGresult **views,
                        struct pj_error *error);

/* ACCESS EXCLUSIVE on each, within a transaction. */
int pj_build_lock_views(struct pj_session *session, const PGresult *views, struct pj_error *error);

/* Within the swap, the new table having the name: each by its own text. PJ_ECONFIG naming the one that cannot be, or that
 * would read other columns. */
int pj_build_redefine_views(struct pj_session *session, const struct pj_build_row *next, const PGresult *views,
                            struct pj_error *error);

/* Within prepare's transaction: the same, all of it undone again. `table`: the name that the new one will have. Where somebody
 * has table or view open it is left to the swap. */
int pj_build_rehearse_views(struct pj_session *session, const char *table, const struct pj_build_row *former,
                            const struct pj_build_row *next, struct pj_error *error);

/* build_names.c */

/* A name as the server makes them for indexes: "TABLE_COLUMNS_LABEL", table and columns cut where it would be longer
 * than 63 bytes, never within a character. `columns` may be NULL. To be freed with pj_free. */
char *pj_build_object_name(const char *table, const char *columns, const char *label);

/* TABLE__kept, or, where there is a table of that name, TABLE__kept2 and so on. To be freed with pj_free, always. */
int pj_build_kept_name(struct pj_session *session, const char *schema, const char *table, char **name,
                       struct pj_error *error);

/* Within the swap, the tables having their new names: the same for their indexes. */
struct pj_build_renaming {
    const char *former, *kept;  /* the former table was called, is called */
    const char *beside, *table; /* the new one */
};
int pj_build_rename_indexes(struct pj_session *session, const struct pj_build_row *former,
                            const struct pj_build_row *next, const struct pj_build_renaming *to,
                            struct pj_error *error);

/* build_chain.c */

/* Within prepare's transaction, the table beside being there: whether the projections that are chained on the one
 * that serves could read it. PJ_ECONFIG naming the one that could not, or the merge that others could not be chained
 * on. */
int pj_build_check_chained(struct pj_build *build, struct pj_session *work, struct pj_error *error);

/* Within the swap: those that are chained on it are paused, with everything noted; whoever is paused already is
 * noted for. */
int pj_build_pause_chained(const struct pj_build *build, struct pj_error *error);

/* Plans the queries of all these, so that they are quick in the swap's transaction. Outside of any; changes nothing. */
int pj_build_plan_carrying(struct pj_session *session, const struct pj_build_row *former,
                           const struct pj_build_row *next, struct pj_error *error);

#endif
