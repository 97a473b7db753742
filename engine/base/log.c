/* See log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const words[] = {"DEBUG", "INFO", "WARNING", "ERROR"};

static size_t put_time(char *line, size_t size)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(line, size, "%Y-%m-%d %H:%M:%S", &utc);
    return length + (size_t)snprintf(line + length, size - length, ".%03ld UTC ", now.tv_nsec / 1000000);
}

/* One write() a line, so that lines of several threads do not mix. */
void pj_log(const struct pj_log *log, enum pj_log_level level, const char *format, ...)
{
    if (level < log->least)
        return;
    char line[4096];
    size_t length = put_time(line, sizeof line);
    length += (size_t)snprintf(line + length, sizeof line - length, "%-7s ", words[level]);
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(line + length, sizeof line - length - 1, format, args);
    va_end(args);
    if (wanted > 0)
        length += (size_t)wanted < sizeof line - length - 1 ? (size_t)wanted : sizeof line - length - 2;
    for (char *at = line; (at = memchr(at, '\n', length - (size_t)(at - line))); at++)
        *at = ' '; /* a message of several lines stays one entry */
    line[length++] = '\n';
    ssize_t written = write(log->fd, line, length);
    (void)written; /* a log that cannot be written has nobody to tell */
}

void pj_log_error(const struct pj_log *log, enum pj_log_level level, const struct pj_error *error)
{
    pj_log(log, level, "%s", error->message);
    if (error->hint[0])
        pj_log(log, level, "HINT: %s", error->hint);
}

bool pj_log_level_parse(const char *word, enum pj_log_level *level)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    for (int i = 0; i < 4; i++)
        if (strcmp(word, names[i]) == 0) {
            *level = (enum pj_log_level)i;
            return true;
        }
    return false;
}
