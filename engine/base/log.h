/*
 * The log: one line each on stderr, "2026-01-31 12:34:56.789 UTC INFO  text". Values of rows and secrets never go
 * there. The logger is an object that the application owns and hands down. Safe to use from several threads.
 */
#ifndef PJ_BASE_LOG_H
#define PJ_BASE_LOG_H

#include "base/error.h"

enum pj_log_level { PJ_LOG_DEBUG, PJ_LOG_INFO, PJ_LOG_WARNING, PJ_LOG_ERROR };

struct pj_log {
    _Atomic enum pj_log_level least; /* lines below it are not written; may be changed at any time */
    int fd;                          /* where to, normally 2 */
};

void pj_log(const struct pj_log *log, enum pj_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The error's message on a line, its hint, where there is one, on a second. */
void pj_log_error(const struct pj_log *log, enum pj_log_level level, const struct pj_error *error);

/* "debug", "info", "warning", "error" to a level; false for another word. */
bool pj_log_level_parse(const char *word, enum pj_log_level *level);

#endif
