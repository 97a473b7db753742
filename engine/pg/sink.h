/*
 * Where prepared statements go: a pipe (sent, answered later) or a session (done at once). What sends statements need
 * not know which. Failures are the sink's to remember; what is given to one that has failed is dropped.
 */
#ifndef PJ_PG_SINK_H
#define PJ_PG_SINK_H

#include "base/error.h"
#include "pgprojector.h"

#include <libpq-fe.h>

/* A statement's result, complete; freed after the call. A return other than PJ_OK, with the error set, fails the
 * sink. */
typedef int (*pj_result_fn)(void *context, const PGresult *result, struct pj_error *error);

struct pj_sink {
    /* A prepared statement with binary parameters (a value of length PJ_NULL is NULL) and binary results. `result`
     * may be NULL. */
    void (*execute)(void *self, const char *statement, int count, const struct pj_value *params, pj_result_fn result,
                    void *context);
    /* SQL text without parameters. */
    void (*query)(void *self, const char *sql, pj_result_fn result, void *context);
    void *self;
};

#endif
