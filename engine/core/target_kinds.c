/*
 * Whether keys have one form wherever they come from: the source's column, the deltas, the target. They travel between
 * these in binary, and are compared by their bytes.
 */
#include "core/projection_sql.h"
#include "host/fixture.h"

#include <string.h>

/* Routing keys travel in the form of the source's column, so the target's must have that form, too. */
static int check_routing_kinds(const struct pj_projection *projection, struct pj_error *error)
{
    for (int i = 0; i < projection->nsources; i++) {
        const struct pj_projection_source *source = &projection->sources[i];
        const char *key = source->table ? projection->module->sources[i].key : NULL;
        for (int j = 0; key && j < source->nrenames; j++)
            if (strcmp(source->renames[2 * j], key) == 0) {
                key = source->renames[2 * j + 1];
                break;
            }
        int index = key ? pj_table_column_index(source->table, key, strlen(key)) : -1;
        if (index >= 0 && source->table->columns[index].type != projection->key_kinds[0]) {
            pj_error_set(error, PJ_ECONFIG,
                         "key column %s of %s is of type %s, but %s.%s, which carries the key, is %s",
                         projection->module->key[0], projection->target_sql, projection->key_types[0],
                         source->table->name, key, source->table->columns[index].type_sql);
            return pj_error_hint(error, "cast one of them in the definition");
        }
    }
    return PJ_OK;
}

/* So do those of deltas, which become dirty keys where they cannot be merged. A type that is none of those listed is held
 * as text. */
static int check_stream_kinds(const struct pj_projection *projection, struct pj_error *error)
{
    enum pj_type wanted = projection->key_kinds[0] == PJ_ANY ? PJ_TEXT : projection->key_kinds[0];
    for (int i = 0; i < projection->nstreams; i++) {
        const struct pj_stream *stream = &projection->module->streams[i];
        if (stream->columns[0].type == wanted)
            continue;
        pj_error_set(error, PJ_ECONFIG,
                     "stream %s: its first column, %s, carries the routing key as %s, but key column "
                     "%s of %s is of type %s",
                     stream->name, stream->columns[0].name, pj_fixture_type_name(stream->columns[0].type),
                     projection->module->key[0], projection->target_sql, projection->key_types[0]);
        return pj_error_hint(error, "declare that column of the stream as %s, or cast the key in the definition",
                             pj_fixture_type_name(wanted));
    }
    return PJ_OK;
}

int pj_projection_check_kinds(const struct pj_projection *projection, struct pj_error *error)
{
    int code = check_routing_kinds(projection, error);
    return code == PJ_OK ? check_stream_kinds(projection, error) : code;
}
