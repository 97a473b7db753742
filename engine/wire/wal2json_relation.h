/*
 * What the wal2json decoder remembers of relations: the last few names it met, and for each table the text that
 * wal2json writes before a column's value. A stream's messages repeat these texts byte for byte, so that comparing them
 * replaces parsing, unescaping and looking up. It is a cache and no more: what does not match is parsed.
 */
#ifndef PJ_WIRE_WAL2JSON_RELATION_H
#define PJ_WIRE_WAL2JSON_RELATION_H

#include "wire/json_scan.h"
#include "wire/table.h"

/* A table as wal2json writes its rows. */
struct pj_wal2json_shape {
    const struct pj_table *table;
    int ncolumns;
    struct pj_wal2json_column {
        char *lead; /* {"name":"title","value": */
        size_t lead_length;
        enum pj_type type;
    } * columns;
    int *row_slots;      /* column i is value i of a row */
    int *identity_slots; /* column i's place among the identity's values, or -1 */
};

struct pj_wal2json_relation {
    char *head; /* "schema":"public","table":"messages" */
    size_t head_length;
    const struct pj_wal2json_shape *shape; /* NULL: of no concern */
};

enum { PJ_WAL2JSON_RECENT = 8 };

struct pj_wal2json_relations {
    const struct pj_relmap *map;
    uint64_t generation; /* the map's, when all below was learned */
    struct pj_wal2json_relation recent[PJ_WAL2JSON_RECENT];
    int last;                          /* the one met last */
    int oldest;                        /* the one to be replaced next */
    struct pj_wal2json_shape **shapes; /* by the table's index */
    int nshapes;
};

void pj_wal2json_relations_init(struct pj_wal2json_relations *relations, const struct pj_relmap *map);
void pj_wal2json_relations_free(struct pj_wal2json_relations *relations);

/* Forgets everything if the map has changed. To be called before each message; what the others return lives as long. */
void pj_wal2json_relations_refresh(struct pj_wal2json_relations *relations);

/* The relation whose head comes next in the text; then behind it. NULL where it is none of the recent ones. */
const struct pj_wal2json_relation *pj_wal2json_relations_match(struct pj_wal2json_relations *relations,
                                                               struct pj_json *json);

/* The relation of that name, from now on a recent one. NULL where the map does not know the name. */
const struct pj_wal2json_relation *pj_wal2json_relations_find(struct pj_wal2json_relations *relations,
                                                              const char *schema, const char *name);

#endif
