/*
 * The receiving end of a replication stream: a connection in COPY BOTH on a libuv loop. The owner pulls messages; the
 * stream says when there are some, and sends status updates.
 *
 * Lifetime: after pj_reader_close the closed callback fires exactly once, from the loop; only then is the memory gone.
 */
#ifndef PJ_PG_READER_H
#define PJ_PG_READER_H

#include "wire/copydata.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <uv.h>

struct pj_reader;

/* Messages may be there; pull until there are none. Fires from the loop, never while not reading. */
typedef void (*pj_readable_fn)(void *context);

/* Takes a connection on which START_REPLICATION has been answered, even on failure. Starts not reading. */
int pj_reader_open(struct pj_reader **reader, uv_loop_t *loop, PGconn *conn, pj_readable_fn readable, void *context,
                   struct pj_error *error);

/*
 * Pulls the next message. *got is false when there is none for now. The message stays valid until the next call.
 * PJ_EUNREACHABLE (retryable) or the server's error when the stream has ended.
 */
int pj_reader_next(struct pj_reader *reader, struct pj_copydata *message, bool *got, struct pj_error *error);

/*
 * How the owner wants to be told of new messages: not at all (back-pressure: the socket is left unread), as soon as
 * bytes arrive, or after a nap of so many microseconds (while the stream runs hot, a wake-up for each message is dear).
 */
enum pj_reading { PJ_READING_PAUSED, PJ_READING_EAGER, PJ_READING_NAP };
void pj_reader_watch(struct pj_reader *reader, enum pj_reading how, int nap_us);

/* Sends a status update: received and durable positions. */
int pj_reader_status(struct pj_reader *reader, pj_lsn written, pj_lsn flushed, bool reply_wanted,
                     struct pj_error *error);

/* Closes the reader, but gives the connection, with what it has received, back in *conn before `closed` fires. */
void pj_reader_release(struct pj_reader *reader, PGconn **conn, void (*closed)(void *context), void *context);
void pj_reader_close(struct pj_reader *reader, void (*closed)(void *context), void *context);

#endif
