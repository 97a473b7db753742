/* What fixture.c and fixture_compare.c share. Not for others. */
#ifndef PJ_HOST_FIXTURE_INTERNAL_H
#define PJ_HOST_FIXTURE_INTERNAL_H

#include "base/mem.h"
#include "host/fixture.h"
#include "host/module.h"

struct pj_fixture_case {
    const struct pj_module *module;
    const json_t *test;
    struct pj_arena arena; /* values read from JSON */
    const char **options;
};

/* The columns of a row: of a source, of a stream, or of the target's key. */
struct pj_fixture_shape {
    int width, nkey;
    const char *names[PJ_MAX_SOURCE_COLUMNS];
    enum pj_type types[PJ_MAX_SOURCE_COLUMNS];
};

void pj_fixture_stream_shape(const struct pj_fixture_case *fixture, int stream, struct pj_fixture_shape *shape);
void pj_fixture_key_shape(const struct pj_fixture_case *fixture, int count, struct pj_fixture_shape *shape);

/* Reads a JSON object into `row`, shape->width values in the arena. `where` is for messages. */
int pj_fixture_read_row(struct pj_fixture_case *fixture, const struct pj_fixture_shape *shape, const json_t *object,
                        const char *where, struct pj_value *row, struct pj_error *error);

/* The other way; columns that are NULL are left out. */
json_t *pj_fixture_row(const struct pj_fixture_shape *shape, const struct pj_value *row);

/* Refuses members that are not in the NULL-ended list. */
int pj_fixture_members(const json_t *object, const char *where, const char *const *known, struct pj_error *error);

#endif
