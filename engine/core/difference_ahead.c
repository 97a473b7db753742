/*
 * See difference_ahead.h. The thread publishes what it has found of one table after the other; a stop that it asks for
 * each (`found`) says that it is there, and one (`over`) that the thread has come to its end, be it by an error.
 */
#include "core/difference_ahead.h"

#include "base/mem.h"
#include "core/difference_internal.h"
#include "core/verify_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
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
    pthread_t thread;
    bool running;
    struct pj_stop cancel; /* asked by the caller */
    struct pj_stop over;   /* asked by the thread, last */
    struct pj_error error; /* the thread's, once it is over */
};

/* ------------------------------------------------------------------------------------------------------- finding */

static int open_one(const struct pj_difference_ahead *ahead, struct pj_session **session, enum pj_side side,
                    struct pj_error *error)
{
    struct pj_session_options options = {
        .side = side,
        .url = side == PJ_WRITE ? ahead->options.write_url : ahead->options.read_url,
        .purpose = "resync compare",
        .stop = &ahead->cancel,
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

static void *run(void *argument)
{
    struct pj_difference_ahead *ahead = argument;
    struct pj_session *write = NULL, *read = NULL;
    pj_error_clear(&ahead->error);
    int code = open_one(ahead, &read, PJ_READ, &ahead->error);
    if (code == PJ_OK)
        code = open_one(ahead, &write, PJ_WRITE, &ahead->error);
    if (code == PJ_OK)
        find_all(ahead, write, read, &ahead->error);
    pj_session_close(write);
    pj_session_close(read);
    pj_stop_ask(&ahead->over);
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------------- calls */

static int prepare(struct pj_difference_ahead *ahead, struct pj_error *error)
{
    int code = pj_stop_init(&ahead->cancel, error);
    if (code == PJ_OK)
        code = pj_stop_init(&ahead->over, error);
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
    *ahead = (struct pj_difference_ahead){.options = *options, .cancel = {-1}, .over = {-1}};
    ahead->findings = pj_alloc(sizeof *ahead->findings * (size_t)(options->ntables + 1));
    int code = prepare(ahead, error);
    if (code == PJ_OK && pthread_create(&ahead->thread, NULL, run, ahead) != 0)
        code = pj_error_set(error, PJ_EFAIL, "no thread could be started");
    ahead->running = code == PJ_OK;
    if (code == PJ_OK)
        return ahead;
    pj_difference_ahead_free(ahead);
    return NULL;
}

static void join(struct pj_difference_ahead *ahead)
{
    if (ahead->running)
        pthread_join(ahead->thread, NULL);
    ahead->running = false;
}

/* Until it is there, the thread has ended without it, or a stop is asked; which is passed on, and becomes the thread's
 * error. */
static int await(struct pj_difference_ahead *ahead, const struct finding_of *finding, const struct pj_stop *stop,
                 struct pj_error *error)
{
    struct pollfd fds[3] = {{.fd = finding->found.fd, .events = POLLIN},
                            {.fd = ahead->over.fd, .events = POLLIN},
                            {.fd = stop ? stop->fd : -1, .events = POLLIN}};
    while (poll(fds, 3, -1) < 0 && errno == EINTR)
        ;
    if (pj_stop_asked(&finding->found))
        return PJ_OK;
    if (!pj_stop_asked(&ahead->over))
        pj_stop_ask(&ahead->cancel);
    join(ahead);
    if (ahead->error.code == PJ_OK)
        return pj_error_set(error, PJ_ESTOPPED, "stopped on request");
    *error = ahead->error;
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
    if (ahead->running)
        pj_stop_ask(&ahead->cancel);
    join(ahead);
    pj_stop_close(&ahead->cancel);
    pj_stop_close(&ahead->over);
    for (int i = 0; i < ahead->options.ntables; i++)
        pj_scope_free(&ahead->findings[i].scope);
    for (int i = 0; i < ahead->ready; i++)
        pj_stop_close(&ahead->findings[i].found);
    pj_free(ahead->findings);
    pj_free(ahead);
}
