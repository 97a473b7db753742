/* The streaming replication protocol's messages inside CopyData (PostgreSQL documentation, "Streaming Replication
 * Protocol"). Pure functions over bytes. */
#ifndef PJ_WIRE_COPYDATA_H
#define PJ_WIRE_COPYDATA_H

#include "base/error.h"
#include "base/lsn.h"

#include <stddef.h>

enum pj_copydata_kind { PJ_COPYDATA_XLOG, PJ_COPYDATA_KEEPALIVE };

struct pj_copydata {
    enum pj_copydata_kind kind;
    pj_lsn start;        /* XLOG: the message's position; KEEPALIVE: the server's sent position */
    int64_t sent_us;     /* the server's clock, microseconds since 2000-01-01 UTC */
    bool reply_wanted;   /* KEEPALIVE: answer at once */
    const char *payload; /* XLOG: points into the message */
    size_t length;
};

/* Reads one CopyData payload. PJ_EDATA where it is neither, or too short. */
int pj_copydata_parse(const char *message, size_t length, struct pj_copydata *out, struct pj_error *error);

enum { PJ_STATUS_BYTES = 34 };

/* Builds a standby status update: written, flushed and applied all report `flushed`… except that written may be
 * ahead. */
void pj_copydata_status(char out[PJ_STATUS_BYTES], pj_lsn written, pj_lsn flushed, int64_t wall_us, bool reply_wanted);

#endif
