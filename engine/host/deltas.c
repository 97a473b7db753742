/*
 * The host's side of the module ABI: one projection's apply() speaks, and this remembers: delta rows combined by key,
 * keys that are dirty as a whole (routing keys), single rows that are dirty (full keys), or "all".
 *
 * A key with a NULL in it is passed over: it can be no row of the target, whose primary key is never NULL.
 */
#include "host/deltas.h"

#include "base/mem.h"
#include "host/guard.h"
#include "host/module.h"
#include "host/rowset.h"
#include "host/value_text.h"

#include <stdarg.h>
#include <stdio.h>

enum { ARENA_KEEP = 4 * 1024 * 1024 };

struct pj_deltas {
    const struct pj_module *module;
    const char *const *options;
    const enum pj_type *kinds; /* of the target's key columns; NULL: not known, and keys are taken as they come */
    int nstreams, nkey, noptions;
    struct pj_arena arena;     /* the bytes of all delta rows, until the reset */
    struct pj_arena key_arena; /* of all dirty keys */
    struct pj_rowset *streams;
    struct pj_rowset routing, full;
    struct pj_arena parked_arena;
    struct pj_rowset parked;
    bool all;
    bool held; /* the rows are not finished: the next part adds to them */
};

struct pj_call {
    struct pj_deltas *deltas;
    struct pj_error *error; /* of the first thing that went wrong, or clear */
    char words[512];        /* what fail() said */
};

/* ------------------------------------------------------------------------------------------- what apply() may call */

/* A value of a wrong width would otherwise reach the server as garbage; and a routing key that no server takes could
 * neither be recomputed nor noted nor parked. */
static int check_row(const struct pj_stream *stream, const struct pj_value *row, struct pj_error *error)
{
    for (int i = 0; stream->columns[i].name; i++) {
        int32_t width = pj_type_width(stream->columns[i].type);
        if (row[i].length < PJ_NULL || (width && row[i].length != width && !pj_is_null(row[i])))
            return pj_error_set(error, PJ_EFAIL, "stream %s: column %s was given a value of %d bytes", stream->name,
                                stream->columns[i].name, (int)row[i].length);
    }
    if (!pj_value_fits(stream->columns[0].type, row[0]))
        return pj_error_set(error, PJ_EFAIL, "stream %s: column %s was given what is no value of its type",
                            stream->name, stream->columns[0].name);
    return PJ_OK;
}

static int check_key(const struct pj_deltas *deltas, const struct pj_value *key, int count, struct pj_error *error)
{
    for (int i = 0; i < count; i++)
        if (key[i].length < PJ_NULL || (deltas->kinds && !pj_value_fits(deltas->kinds[i], key[i])))
            return pj_error_set(error, PJ_EFAIL,
                                "dirty: for key column %s %d bytes were given that are no value of its type",
                                deltas->module->key[i], (int)key[i].length);
    return PJ_OK;
}

static bool has_null(const struct pj_value *key, int count)
{
    for (int i = 0; i < count; i++)
        if (pj_is_null(key[i]))
            return true;
    return false;
}

static void host_emit(struct pj_call *call, int stream, const struct pj_value *row)
{
    struct pj_deltas *deltas = call->deltas;
    if (call->error->code != PJ_OK)
        return;
    if (stream < 0 || stream >= deltas->nstreams) {
        pj_error_set(call->error, PJ_EFAIL, "emit to stream %d, of %d", stream, deltas->nstreams);
        return;
    }
    const struct pj_stream *declared = &deltas->module->streams[stream];
    if (check_row(declared, row, call->error) != PJ_OK || pj_is_null(row[0]))
        return;
    if (pj_rowset_add(&deltas->streams[stream], &deltas->arena, row, call->error) != PJ_OK)
        pj_error_wrap(call->error, "stream %s", declared->name);
}

static void host_dirty(struct pj_call *call, const struct pj_value *key, int count)
{
    if (call->error->code != PJ_OK)
        return;
    if (count != 1 && count != call->deltas->nkey)
        pj_error_set(call->error, PJ_EFAIL, "dirty with %d values; it takes 1 or the %d of the key", count,
                     call->deltas->nkey);
    else if (check_key(call->deltas, key, count, call->error) == PJ_OK)
        pj_deltas_mark(call->deltas, key, count);
}

static void host_dirty_all(struct pj_call *call)
{
    call->deltas->all = true;
}

static const char *host_option(struct pj_call *call, int index)
{
    return index >= 0 && index < call->deltas->noptions ? call->deltas->options[index] : "";
}

__attribute__((format(printf, 2, 3))) static void host_fail(struct pj_call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(call->words, sizeof call->words, format, args);
    va_end(args);
}

static const struct pj_host host = {
    .size = sizeof(struct pj_host),
    .emit = host_emit,
    .dirty = host_dirty,
    .dirty_all = host_dirty_all,
    .option = host_option,
    .fail = host_fail,
};

/* -------------------------------------------------------------------------------------------------------- lifetime */

struct pj_deltas *pj_deltas_new(const struct pj_module *module, const char *const *options)
{
    struct pj_deltas *deltas = pj_alloc(sizeof *deltas);
    deltas->module = module;
    deltas->options = options;
    deltas->nstreams = pj_module_stream_count(module);
    deltas->nkey = pj_module_key_count(module);
    deltas->noptions = pj_module_option_count(module);
    pj_arena_init(&deltas->arena);
    pj_arena_init(&deltas->key_arena);
    pj_arena_init(&deltas->parked_arena);
    pj_rowset_init(&deltas->parked, NULL, 1, 1);
    pj_rowset_init(&deltas->routing, NULL, 1, 1);
    pj_rowset_init(&deltas->full, NULL, deltas->nkey, deltas->nkey);
    deltas->streams = pj_alloc((size_t)deltas->nstreams * sizeof *deltas->streams);
    for (int i = 0; i < deltas->nstreams; i++) {
        const struct pj_stream *stream = &module->streams[i];
        int nkey = 0;
        while (stream->columns[nkey].name && stream->columns[nkey].combine == PJ_KEY)
            nkey++;
        pj_rowset_init(&deltas->streams[i], stream->columns, pj_stream_column_count(stream), nkey);
    }
    return deltas;
}

void pj_deltas_know_kinds(struct pj_deltas *deltas, const enum pj_type *kinds)
{
    deltas->kinds = kinds;
}

void pj_deltas_free(struct pj_deltas *deltas)
{
    if (!deltas)
        return;
    for (int i = 0; i < deltas->nstreams; i++)
        pj_rowset_free(&deltas->streams[i]);
    pj_free(deltas->streams);
    pj_rowset_free(&deltas->routing);
    pj_rowset_free(&deltas->parked);
    pj_arena_free(&deltas->parked_arena);
    pj_rowset_free(&deltas->full);
    pj_arena_free(&deltas->arena);
    pj_arena_free(&deltas->key_arena);
    pj_free(deltas);
}

void pj_deltas_reset(struct pj_deltas *deltas)
{
    for (int i = 0; i < deltas->nstreams; i++)
        pj_rowset_reset(&deltas->streams[i]);
    pj_rowset_reset(&deltas->routing);
    pj_rowset_reset(&deltas->full);
    pj_arena_reset(&deltas->arena, ARENA_KEEP);
    pj_arena_reset(&deltas->key_arena, ARENA_KEEP);
    deltas->all = deltas->held = false;
}

/* ------------------------------------------------------------------------------------------------------- collecting */

void pj_deltas_mark_all(struct pj_deltas *deltas)
{
    deltas->all = true;
}

void pj_deltas_mark(struct pj_deltas *deltas, const struct pj_value *key, int count)
{
    if (has_null(key, count))
        return;
    struct pj_error never; /* keys are not summed */
    pj_rowset_add(count == 1 ? &deltas->routing : &deltas->full, &deltas->key_arena, key, &never);
}

/* Without an apply(): both routing keys are dirty; where the source does not carry one, everything. */
static void mark_change(struct pj_deltas *deltas, const struct pj_change *change)
{
    if (!deltas->module->sources[change->source].key) {
        deltas->all = true;
        return;
    }
    if (change->old_row)
        pj_deltas_mark(deltas, change->old_row, 1);
    if (change->new_row)
        pj_deltas_mark(deltas, change->new_row, 1);
}

static int call_apply(struct pj_deltas *deltas, const struct pj_change *change, struct pj_error *error)
{
    struct pj_call call = {.deltas = deltas, .error = error};
    pj_guard_enter();
    int refused = deltas->module->apply(&host, &call, change);
    pj_guard_leave();
    if (error->code == PJ_OK && refused)
        pj_error_set(error, PJ_EFAIL, "%s", call.words[0] ? call.words : "refused without a word");
    if (error->code == PJ_OK)
        return PJ_OK;
    error->code = PJ_EFAIL; /* whatever it was, it is this module's, and says nothing of the batch or of the mirrors */
    return pj_error_wrap(error, "projection %s: apply() of a change of %s", deltas->module->name,
                         deltas->module->sources[change->source].table);
}

int pj_deltas_apply(struct pj_deltas *deltas, const struct pj_change *change, struct pj_error *error)
{
    error->code = PJ_OK; /* not all of it: this runs for every row */
    if (!deltas->module->target || deltas->all)
        return PJ_OK;
    if (deltas->module->apply)
        return call_apply(deltas, change, error);
    mark_change(deltas, change);
    return PJ_OK;
}

/* --------------------------------------------------------------------------------------------------------- results */

void pj_deltas_finish(struct pj_deltas *deltas)
{
    deltas->held = false;
    for (int i = 0; i < deltas->nstreams; i++) {
        if (deltas->all)
            pj_rowset_sort_none(&deltas->streams[i]);
        else
            pj_rowset_sort(&deltas->streams[i], &deltas->routing, &deltas->parked);
    }
    if (deltas->all) {
        pj_rowset_sort_none(&deltas->routing);
        pj_rowset_sort_none(&deltas->full);
    } else {
        pj_rowset_sort(&deltas->routing, &deltas->parked, NULL);
        pj_rowset_sort(&deltas->full, &deltas->routing, &deltas->parked);
    }
}

void pj_deltas_finish_as_keys(struct pj_deltas *deltas)
{
    for (int i = 0; i < deltas->nstreams; i++) {
        struct pj_rowset *stream = &deltas->streams[i];
        pj_rowset_sort(stream, NULL, NULL);
        for (size_t row = 0; row < stream->nsorted; row++)
            pj_deltas_mark(deltas, &stream->sorted[row * (size_t)stream->width], 1);
        pj_rowset_reset(stream);
    }
    pj_deltas_finish(deltas);
}

void pj_deltas_park(struct pj_deltas *deltas, const struct pj_value *routing_key)
{
    struct pj_error never;
    pj_rowset_add(&deltas->parked, &deltas->parked_arena, routing_key, &never);
}

void pj_deltas_forget_parked(struct pj_deltas *deltas)
{
    pj_rowset_reset(&deltas->parked);
    pj_arena_reset(&deltas->parked_arena, 0);
}

const struct pj_value *pj_deltas_rows(const struct pj_deltas *deltas, int stream, size_t *count)
{
    *count = deltas->streams[stream].nsorted;
    return deltas->streams[stream].sorted;
}

bool pj_deltas_all_dirty(const struct pj_deltas *deltas)
{
    return deltas->all;
}

const struct pj_value *pj_deltas_routing_keys(const struct pj_deltas *deltas, size_t *count)
{
    *count = deltas->routing.nsorted;
    return deltas->routing.sorted;
}

const struct pj_value *pj_deltas_full_keys(const struct pj_deltas *deltas, size_t *count)
{
    *count = deltas->full.nsorted;
    return deltas->full.sorted;
}

size_t pj_deltas_key_count(const struct pj_deltas *deltas)
{
    return deltas->routing.count + deltas->full.count;
}

static void drop_rows(struct pj_deltas *deltas)
{
    for (int i = 0; i < deltas->nstreams; i++)
        pj_rowset_reset(&deltas->streams[i]);
    pj_arena_reset(&deltas->arena, ARENA_KEEP);
}

void pj_deltas_hold(struct pj_deltas *deltas)
{
    deltas->held = true;
    for (int i = 0; i < deltas->nstreams; i++)
        pj_rowset_sort_none(&deltas->streams[i]);
    pj_rowset_sort_none(&deltas->routing);
    pj_rowset_sort_none(&deltas->full);
}

void pj_deltas_next_part(struct pj_deltas *deltas)
{
    if (!deltas->held)
        drop_rows(deltas);
}

size_t pj_deltas_bytes(const struct pj_deltas *deltas)
{
    size_t bytes = deltas->arena.used;
    for (int i = 0; i < deltas->nstreams; i++)
        bytes += pj_rowset_bytes(&deltas->streams[i]);
    return bytes;
}

void pj_deltas_keys_to_all(struct pj_deltas *deltas)
{
    deltas->all = true;
    pj_rowset_reset(&deltas->routing);
    pj_rowset_reset(&deltas->full);
    pj_arena_reset(&deltas->key_arena, ARENA_KEEP);
    drop_rows(deltas);
}
