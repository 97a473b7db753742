/*
 * What is known of a mirrored source table: plain data, filled from the source's catalog (core/source.h) at start, read
 * by the decoder and by everything behind it. Nothing here does I/O.
 */
#ifndef PJ_WIRE_TABLE_H
#define PJ_WIRE_TABLE_H

#include "base/lsn.h"
#include "pgprojector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A value's length where the stream left the column out (unchanged TOAST). Never reaches a module. */
#define PJ_ABSENT (-2)

struct pj_table_column {
    char *name;
    int number;          /* on the source; a column of that name with another number is another column */
    enum pj_type type;   /* how its values are held; PJ_ANY: as text */
    uint32_t type_oid;   /* of the source's column, a domain resolved to its base type; 0 < oid < 16384: built in */
    char *type_sql;      /* the column's declared type as SQL, schema-qualified and quoted: "pg_catalog.varchar(10)",
                            "public.mood", "app.email_domain" */
    char *array_sql;     /* the type as which it is sent in an array parameter: "pg_catalog.uuid", for PJ_ANY
                            "pg_catalog.text" */
    char *cast_sql;      /* the type to cast an element of that array to, without modifiers: "pg_catalog.numeric" */
    char *output_sql;    /* PJ_ANY: the output function, quoted: "pg_catalog.numeric_out"; else NULL */
    char *collation_sql; /* a COLLATE that differs from the type's default, quoted name, or NULL */
    char *equal_sql;     /* the operator by which an index on it tells equal values: "=", "OPERATOR(public.=)" for a
                            type of an extension, which "=" does not find without a search_path */
    bool not_null;
    bool toastable; /* may be left out of an UPDATE; a column that is not may never be absent */
};

/* A partition that holds rows: what the stream names. */
struct pj_table_leaf {
    char *schema, *name;
    uint32_t oid;
    bool attached; /* it was a table of its own before it became a partition */
    bool touched; /* it may have had another name: it was renamed, moved, or given to another owner since it was made */
};

struct pj_table {
    char *schema, *name; /* on the source; the root's where it is partitioned */
    char *mirror_sql;    /* the mirror's quoted, qualified name on the read database */
    uint32_t oid;        /* on the source */
    bool partitioned;
    int index; /* its place in the list of mirrored tables */
    int ncolumns;
    struct pj_table_column *columns; /* in the source's order; dropped columns are not there */
    int nkey, *key;                  /* the primary key: indexes into columns */
    int nidentity, *identity;        /* the replica identity: the primary key, or the identity index's columns; for
                                   REPLICA IDENTITY FULL the primary key, found in the whole old row */
    bool identity_is_key;            /* identity and key are the same columns */
    bool identity_full;
    int insert_order; /* the column in whose order rows are inserted into the mirror, plus one; 0: the identity's */
    int nleaves;      /* of a partitioned table, as of when it was read; filled, freed and used by core/source */
    struct pj_table_leaf *leaves;
    pj_lsn leaves_as_of;  /* the source's position when they were read */
    pj_lsn renamed_until; /* up to there a leaf's rows may come under a former name, which nobody knows; 0: none */
    bool joining;         /* its mirror is not exact yet: changed rows are only noted (core/joining.h) */
};

/* Gives back all it points to, not the struct itself. */
void pj_table_free(struct pj_table *table);

/* Takes out a column that is neither of the key nor of the identity. */
void pj_table_remove_column(struct pj_table *table, int column);

/* How many columns may be wide, for being TOASTable. */
int pj_table_wide_columns(const struct pj_table *table);

/* The index of a column by its exact name (not NUL-terminated), or -1. */
int pj_table_column_index(const struct pj_table *table, const char *name, size_t length);

/*
 * Which table a name in the stream belongs to: a table under its own name, a partition's leaf under its root's table.
 */
struct pj_relmap;

struct pj_relmap *pj_relmap_new(void);
void pj_relmap_free(struct pj_relmap *map); /* not the tables */

/* Adds or replaces a name. A NULL table says: known, and of no concern. */
void pj_relmap_put(struct pj_relmap *map, const char *schema, const char *name, const struct pj_table *table);

/* Looks a name up (not NUL-terminated). `known` is false where the name was never put. */
const struct pj_table *pj_relmap_get(const struct pj_relmap *map, const char *schema, size_t schema_length,
                                     const char *name, size_t name_length, bool *known);

/* A number that moves with every put: whoever caches what the map says asks it whether the cache still holds. A table
 * that changes in place has to be put again. */
uint64_t pj_relmap_generation(const struct pj_relmap *map);

#endif
