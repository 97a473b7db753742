/*
 * See difference_ahead.h. The thread (core/aside.h) publishes what it has found of one table after the other; a stop
 * that it asks for each (`found`) says that it is there.
 */
#include "core/difference_ahead.h"

#include "base/mem.h"
#include "core/aside.h"
#include "core/difference_internal.h"
#include "core/verify_internal.h"

#include <stdlib.h>

/* Of one table. The thread writes before it asks `found`, the caller reads after. */
struct finding_of {
    const struct pj_table *table;
    struct pj_scope scope;
    bool agrees;
    struct pj_stop found;
};

struct pj_difference_ahead {
    struct pj_difference_ahead_options options;
    struct finding_of *findings; /* largest first */
    int ready, next;             /* of them: have a `found`; is looked at next */
    struct pj_aside aside;
};

/* ------------------------------------------------------------------------------------------------------- finding */

static int open_one(const struct pj_difference_ahead *ahead, struct pj_session **session, enum pj_side side,
                    const struct pj_stop *cancel, struct pj_error *error)
{
    struct pj_session_options options = {
        .side = side,
        .url = side == PJ_WRITE ? ahead->options.write_url : ahead->options.read_url,
        .purpose = "resync compare",
        .stop = cancel,
    };
    int code = pj_session_open(session, &options, error);
    if (code == PJ_OK)
        code = pj_session_exec(*session, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error);
    if (code == PJ_OK && side == PJ_WRITE)
        code = pj_session_execf(*session, error, "SET TRANSACTION SNAPSHOT '%s'", ahead->options.snapshot);
    return code == PJ_OK ? pj_session_exec(*session, "SET LOCAL row_security = off; SET LOCAL jit = off", error) : code;
}

struct size {
    const struct pj_table *table;
    int64_t rows;
};

static int larger_first(const void *a, const void *b)
{
    int64_t one = ((const struct size *)a)->rows, other = ((const struct size *)b)->rows;
    return (one < other) - (one > other);
}

/* The large one is then looked at while the others are compared, and what is left when all are is little. */
static int order_tables(struct pj_difference_ahead *ahead, struct pj_session *read, struct pj_error *error)
{
    int code = PJ_OK, count = ahead->options.ntables;
    struct size *sizes = pj_alloc(sizeof *sizes * (size_t)(count + 1));
    for (int i = 0; code == PJ_OK && i < count; i++) {
        sizes[i].table = &ahead->options.tables[i];
        code = pj_sample_size(read, sizes[i].table->mirror_sql, &sizes[i].rows, error);
    }
    if (code == PJ_OK)
        qsort(sizes, (size_t)count, sizeof *sizes, larger_first);
    for (int i = 0; code == PJ_OK && i < count; i++)
        ahead->findings[i].table = sizes[i].table;
    pj_free(sizes);
    return code;
}

static int find_all(struct pj_difference_ahead *ahead, struct pj_session *write, struct pj_session *read,
                    struct pj_error *error)
{
    int code = order_tables(ahead, read, error);
    for (int i = 0; code == PJ_OK && i < ahead->options.ntables; i++) {
        struct finding_of *finding = &ahead->findings[i];
        code = pj_difference_find(write, read, finding->table, &finding->scope, &finding->agrees, error);
        if (code == PJ_OK)
            pj_stop_ask(&finding->found);
        else
            pj_error_wrap(error, "compare mirror %s.%s", finding->table->schema, finding->table->name);
    }
    return code;
}

static void run(void *context, const struct pj_stop *cancel, struct pj_error *error)
{
    struct pj_difference_ahead *ahead = context;
    struct pj_session *write = NULL, *read = NULL;
    int code = open_one(ahead, &read, PJ_READ, cancel, error);
    if (code == PJ_OK)
        code = open_one(ahead, &write, PJ_WRITE, cancel, error);
    if (code == PJ_OK)
        find_all(ahead, write, read, error);
    pj_session_close(write);
    pj_session_close(read);
}

/* ----------------------------------------------------------------------------------------------------------- calls */

static int prepare(struct pj_difference_ahead *ahead, struct pj_error *error)
{
    int code = PJ_OK;
    while (code == PJ_OK && ahead->ready < ahead->options.ntables) {
        code = pj_stop_init(&ahead->findings[ahead->ready].found, error);
        ahead->ready += code == PJ_OK;
    }
    return code;
}

struct pj_difference_ahead *pj_difference_ahead_begin(const struct pj_difference_ahead_options *options,
                                                      struct pj_error *error)
{
    struct pj_difference_ahead *ahead = pj_alloc(sizeof *ahead);
    *ahead = (struct pj_difference_ahead){.options = *options, .aside = PJ_ASIDE_NONE};
    ahead->findings = pj_alloc(sizeof *ahead->findings * (size_t)(options->ntables + 1));
    int code = prepare(ahead, error);
    if (code == PJ_OK)
        code = pj_aside_begin(&ahead->aside, run, ahead, error);
    if (code == PJ_OK)
        return ahead;
    pj_difference_ahead_free(ahead);
    return NULL;
}

/* Until it is there; an error where the thread has ended without it. */
static int await(struct pj_difference_ahead *ahead, const struct finding_of *finding, const struct pj_stop *stop,
                 struct pj_error *error)
{
    if (pj_aside_await(&ahead->aside, &finding->found, stop))
        return PJ_OK;
    if (ahead->aside.error.code == PJ_OK)
        return pj_error_set(error, PJ_ESTOPPED, "stopped on request");
    *error = ahead->aside.error;
    return error->code;
}

int pj_difference_ahead_look(struct pj_difference_ahead *ahead, struct pj_session *write, struct pj_session *read,
                             const struct pj_stop *stop, const struct pj_table **table, struct pj_mended *mended,
                             struct pj_error *error)
{
    struct finding_of *finding = &ahead->findings[ahead->next];
    *table = NULL;
    *mended = (struct pj_mended){0};
    if (ahead->next == ahead->options.ntables)
        return PJ_OK;
    int code = await(ahead, finding, stop, error);
    if (code != PJ_OK)
        return code;
    ahead->next++;
    *table = finding->table;
    return finding->agrees ? PJ_OK : pj_difference_look_at(write, read, finding->table, &finding->scope, mended, error);
}

void pj_difference_ahead_free(struct pj_difference_ahead *ahead)
{
    if (!ahead)
        return;
    pj_aside_end(&ahead->aside);
    for (int i = 0; i < ahead->options.ntables; i++)
        pj_scope_free(&ahead->findings[i].scope);
    for (int i = 0; i < ahead->ready; i++)
        pj_stop_close(&ahead->findings[i].found);
    pj_free(ahead->findings);
    pj_free(ahead);
}
