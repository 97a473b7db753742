/*
 * Errors as values: a code, and an error object the caller owns that collects context on the way up.
 *
 * Every function that can fail returns PJ_OK (0) or a negative `enum pj_code`, and takes a `struct pj_error *` as its
 * last argument (never NULL). The place that finds the fault calls pj_error_set(); each caller that knows more calls
 * pj_error_wrap(), so that the message reads from the outside in:
 *     "apply batch ending 0/1A2B: mirror public.messages: insert: duplicate key … (SQLSTATE 23505)"
 * Lower layers return, only the top logs.
 */
#ifndef PJ_BASE_ERROR_H
#define PJ_BASE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, value, exit code of the command line, description) */
#define PJ_CODES(X)                                                                                                    \
    X(PJ_OK, 0, 0, "success")                                                                                          \
    X(PJ_EFAIL, -1, 1, "failure")                                                                                      \
    X(PJ_ECONFIG, -2, 2, "usage or configuration")                                                                     \
    X(PJ_EUNREACHABLE, -3, 3, "a database is unreachable")                                                             \
    X(PJ_EUNHEALTHY, -4, 4, "unhealthy or lagging")                                                                    \
    X(PJ_EDIFFERENT, -5, 5, "differences found")                                                                       \
    X(PJ_EDEADLETTER, -6, 6, "dead letters present")                                                                   \
    X(PJ_EGAP, -7, 1, "a gap in the stream cannot be ruled out")                                                       \
    X(PJ_ESCHEMA, -8, 1, "the source's schema does not fit")                                                           \
    X(PJ_EDATA, -9, 1, "data that cannot be represented or understood")                                                \
    X(PJ_ESTALE, -10, 1, "another daemon has taken over")                                                              \
    X(PJ_ESTOPPED, -11, 0, "stopped on request")                                                                       \
    X(PJ_ERELOAD, -12, 1, "to be run again with another setup")

#define PJ_CODE_ENUM(name, value, exit_code, text) name = (value),
enum pj_code { PJ_CODES(PJ_CODE_ENUM) };
#undef PJ_CODE_ENUM

struct pj_error {
    int code;         /* enum pj_code */
    bool retryable;   /* the same action may succeed later without anyone's help (server down, lock timeout …) */
    bool storage;     /* a server could not do to its files what it wanted to (a full disk); retryable, then */
    bool in_use;      /* somebody, whom the message names, has open what is to be dropped or renamed; retryable, then */
    char sqlstate[6]; /* five characters, or "" where no server was asked */
    const char *server; /* whose words they are, as pj_side_name() calls it; NULL where no server was asked */
    char message[2048]; /* one line, no trailing newline; truncated with "…" where longer */
    char hint[1024];    /* the remedy, or "" */
};

/* Empties the error: code PJ_OK. */
void pj_error_clear(struct pj_error *error);

/* Sets code and message (replacing what was there, hint and SQLSTATE emptied, not retryable). Returns `code`. */
int pj_error_set(struct pj_error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message. Returns the error's code, so that it can end a function. */
int pj_error_wrap(struct pj_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Names the remedy. Returns the error's code. */
int pj_error_hint(struct pj_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether two errors speak of one cause, so that the second need not be said: the same SQLSTATE of the same server, whatever
 * file, block or statement it was met at; where no server was asked, the same message. */
bool pj_error_same_cause(const struct pj_error *a, const struct pj_error *b);

/* The process exit code of the contract for a code. */
int pj_code_exit(int code);

/* A code's name, such as "PJ_EGAP"; "PJ_E?" for a number that is none. Static storage. */
const char *pj_code_name(int code);

#endif
