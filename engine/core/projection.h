/*
 * A module bound to the tables and settings of one deployment: its SQL, ready to be prepared.
 */
#ifndef PJ_CORE_PROJECTION_H
#define PJ_CORE_PROJECTION_H

#include "base/buf.h"
#include "host/deltas.h"
#include "host/module.h"
#include "pg/session.h"
#include "wire/table.h"

/* How a deployment names what a module calls `table`; from the configuration, NULL-ended lists of pairs. */
struct pj_binding {
    const char *const (*tables)[2];  /* {declared table, actual "schema.table" or "table"}; ends with {NULL, NULL} */
    const char *const (*columns)[2]; /* {"table.column" as declared, actual column}; ends with {NULL, NULL} */
    const char *const (*options)[2]; /* {option, value}; ends with {NULL, NULL} */
    const char *default_schema;      /* for names without a schema; NULL: "public" */
    bool beside; /* its table is built beside the one that serves: both, and its row in the catalog, have names of their
                    own (PJ_NEXT) */
    bool halt_on_error; /* on_error = halt */
};

/* What is added to the names of a projection and of its table while it is built beside, and once it has been
 * replaced. No module's name has a dot. A table's name is cut where both together would be too long. */
#define PJ_NEXT_NAME ".next"
#define PJ_KEPT_NAME ".kept"
#define PJ_NEXT_TABLE "__next"
#define PJ_KEPT_TABLE "__kept"

/* The name of a table that goes with `table`: at most 63 bytes, whole UTF-8 characters; where it is cut, with a few digits by
 * which names that begin alike differ. To be freed with pj_free. */
char *pj_table_beside(const char *table, const char *suffix);

struct pj_projection;

struct pj_projection_source {
    const struct pj_table *table;   /* NULL where the source is another projection's target (core/chain.h) */
    struct pj_projection *upstream; /* that projection, else NULL */
    int width;          /* values apply() gets of a row; of an upstream: columns that carry the key, none, 1 or all */
    int *columns;       /* for each of them, the index into table->columns; of an upstream: into its key */
    char *relation_sql; /* what {table} stands for in a query: the mirror, or a subselect that renames its columns */
    char **renames;     /* pairs: column as declared, actual column */
    int nrenames;       /* pairs */
};

/* A projection that reads another one's table. */
struct pj_chained {
    struct pj_projection *downstream;
    int width;    /* values of a touched row that are its dirty key: 1 or all of its key; 0: everything is dirty */
    int *columns; /* for each of them, its place in `touched` of the upstream */
};

struct pj_projection {
    const struct pj_module *module;
    char *name;                /* in the catalog: the module's, or with PJ_NEXT_NAME */
    char mark[PJ_DIGEST_SIZE]; /* of the module's file and section (core/deployment.h); "" outside of a setup */
    int nsources;
    struct pj_projection_source *sources;
    const char **options;     /* values, in the module's order */
    struct pj_deltas *deltas; /* of the batch being applied */
    uint64_t refused;         /* rows that apply() has refused since whoever counts them looked last (core/pipeline) */
    struct pj_error refused_last; /* of the last of them */
    bool halt_on_error;           /* what it cannot take halts the daemon, instead of being parked */

    /* all below: NULL or 0 for a module without a target */
    bool live;      /* deltas are merged; else touched keys are only noted. Filled by pj_standing_load */
    bool apply_off; /* its apply() has crashed or hung, and is not called: keys are noted without it. The same */
    struct pj_error refusal; /* why its merges or recomputations cannot be prepared; code PJ_OK: they can, or it was not
                                tried. Filled by pj_statements_prepare */
    char *target_schema, *target_name;
    char *target_sql; /* quoted and qualified */
    int nkey, nstreams;
    char **key_types;        /* SQL types of the key columns: "pg_catalog.uuid"; filled by pj_projection_check_target */
    enum pj_type *key_kinds; /* how key values are held; the same */
    char **merge_sql;        /* one a stream; parameters: one array a stream column */
    char *recompute_routing_sql; /* $1: array of routing keys */
    char *recompute_full_sql;    /* one array a key column; NULL where the key has one column */
    char *recompute_all_sql; /* no parameters; to be planned with the server's own planner settings (hash joins on) */
    char *wanted_sql;        /* the definition's rows of some routing keys; $1: array of them */
    /* recomputation in steps, planned in the same way: a query for what PJ_DIFFERING_TABLE is to hold (of all; of some
     * routing keys, $1: array of them), and what writes it to the target */
    char *differing_all_sql, *differing_keys_sql;
    char *differing_delete_sql, *differing_insert_sql;
    char *definition_sql; /* the whole definition as a plain SELECT */

    /* chains (core/chain.h); all 0 or NULL where there are none */
    int level;    /* 0: reads mirrors alone */
    int nchained; /* who reads this one's table */
    struct pj_chained *chained;
    int ntouched; /* columns of the key that they want to know of touched rows: merges and recomputations return them */
    int *touched; /* for each of them, its index in the key */
    char **merge_touched_sql; /* the merges, returning them; filled by pj_projection_check_target */
};

#define PJ_DIFFERING_TABLE "pg_temp.pgprojector_recomputed"

/* The most touched rows that a statement returns: where there are more, everything downstream is dirty. */
enum { PJ_TOUCHED_AT_MOST = 50000 };

/* The tables a module wants, appended to a growing list (duplicates are merged, `wanted_by` names the first). */
struct pj_wanted_table;
int pj_projection_want(const struct pj_module *module, const struct pj_binding *binding,
                       struct pj_wanted_table **wanted, int *count, struct pj_error *error);

/* Binds: finds sources and columns, checks their types. PJ_ECONFIG naming module, table and column. No I/O. */
int pj_projection_bind(struct pj_projection *projection, const struct pj_module *module,
                       const struct pj_binding *binding, const struct pj_table *tables, int count,
                       struct pj_error *error);

/* The same where sources may be targets of other projections: of the `nothers` that are bound already (core/chain.h
 * says in what order). They must stay where they are as long as this one. */
int pj_projection_bind_chained(struct pj_projection *projection, const struct pj_module *module,
                               const struct pj_binding *binding, const struct pj_table *tables, int count,
                               const struct pj_projection *others, int nothers, struct pj_error *error);
void pj_projection_free(struct pj_projection *projection);

/* The actual column of a source that carries the routing key; NULL: none does. */
const char *pj_projection_routing_column(const struct pj_projection *projection, int source);

/* Creates the empty target from the definition's result columns (no rows, no indexes), or PJ_ECONFIG where a table of
 * that name is there that pgprojector does not own, or the definition does not parse or lacks a key column. */
int pj_projection_create_target(struct pj_session *read, struct pj_projection *projection, struct pj_error *error);

/* Fills the empty target from the definition, then adds primary key and indexes, then analyzes. Outside of a transaction,
 * keys for which the definition fails are parked (*parked: how many; core/fill_keys.h) and the others' rows written. */
int pj_projection_fill_target(struct pj_session *read, struct pj_projection *projection, int64_t *parked,
                              struct pj_error *error);

/* Its two steps, for a table that is built beside: the rows (*rows: how many), then key, indexes, statistics. */
int pj_projection_fill_rows(struct pj_session *read, const struct pj_projection *projection, int64_t *rows,
                            struct pj_error *error);
int pj_projection_finish_target(struct pj_session *read, const struct pj_projection *projection,
                                struct pj_error *error);

/* Whether the module and its definition are as they were when the table was built; PJ_ECONFIG "rebuild needed" where
 * not. */
int pj_projection_check_recorded(struct pj_session *read, const struct pj_projection *projection,
                                 struct pj_error *error);

/* pj_projection_check_target without pj_projection_check_recorded: for what makes the table what the module says. */
int pj_projection_describe_target(struct pj_session *read, struct pj_projection *projection, struct pj_error *error);

/* The same by another table of the same shape (quoted), which is to take the target's name. */
int pj_projection_describe_as(struct pj_session *read, struct pj_projection *projection, const char *table,
                              struct pj_error *error);

/* Reads the target's key types from the catalog and builds the SQL texts that need them. To be called at each start. */
int pj_projection_check_target(struct pj_session *read, struct pj_projection *projection, struct pj_error *error);

/* The statement that creates the module's mirror index number `index` on a new mirror (the caller frees it), and the
 * table it is on. The same index wanted by two modules gives the same text. */
int pj_projection_mirror_index(const struct pj_projection *projection, int index, char **sql,
                               const struct pj_table **table, struct pj_error *error);

/* Runs such a statement; a fault of the module's text is PJ_ECONFIG. */
int pj_projection_run_index(struct pj_session *read, const char *sql, struct pj_error *error);

/* Creates the module's mirror indexes where they are missing (names derived from their text). */
int pj_projection_create_mirror_indexes(struct pj_session *read, const struct pj_projection *projection,
                                        struct pj_error *error);

/* The same on mirrors that are streamed into, holding nobody up; not within a transaction. */
int pj_projection_add_mirror_indexes(struct pj_session *read, const struct pj_projection *projection,
                                     struct pj_error *error);

/* Drops those that such a call has left unfinished (it was given up, or its process ended), as far as nobody has their
 * table open. Not while one is under way. */
int pj_projection_drop_unfinished_indexes(struct pj_session *read, struct pj_error *error);

#endif
