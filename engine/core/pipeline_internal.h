/* What the parts of the pipeline share: pipeline.c (its life) and pipeline_*.c. Not for others. */
#ifndef PJ_CORE_PIPELINE_INTERNAL_H
#define PJ_CORE_PIPELINE_INTERNAL_H

#include "core/applier.h"
#include "core/careful.h"
#include "core/connect.h"
#include "core/intake.h"
#include "core/pace.h"
#include "core/pipeline.h"
#include "core/trouble.h"
#include "pg/reader.h"

enum pipeline_state { CONNECTING, STREAMING, RESOLVING, CLOSING, BACKOFF, HALTED, FINISHED };

/* What it is about to do, at the next commit. Goes up only. */
enum purpose {
    TO_STREAM,
    TO_LEAVE, /* another outfit is offered: ends with PJ_ERELOAD */
    TO_STOP
};

/* A message that the intake has handed back, to be handed in again. */
enum held {
    NOTHING_HELD,
    HELD_FOR_PART, /* once what has been collected before it has been handed over as a part */
    HELD           /* when it streams (a look-up of what it speaks of may be under way) */
};

/* Who reads the source's catalog: both jobs read the tables' partitions, one adds to them, so it is one at a time. */
enum source_job { NO_SOURCE_JOB, LOOKING_UP, WATCHING };

/* Who has the batch that is being applied. */
enum applying {
    NORMALLY,  /* the applier, if anybody */
    CAREFULLY, /* a job: core/careful */
    REREADING  /* nobody: the catalog has changed under it, and is read again by a job; then the applier */
};

enum {
    TICK_MS = 50,
    STATUS_US = 200 * 1000,        /* least time between status updates after a commit */
    SILENCE_US = 55 * 1000 * 1000, /* longest without a word from the write database, which is asked for one */
    HEARTBEAT_US = 5000 * 1000,    /* longest time without one; less where the walsender is impatient */
    PING_US = 400 * 1000,          /* how often an idle stream is asked for its position */
    POSITION_US = 100 * 1000,      /* least time between checkpoints that only move the position */
    IDLE_POSITION_US = 900 * 1000, /* the same while nothing but keepalives arrives */
    SCHEMA_US = 10 * 1000 * 1000,
    ASKED_US = 1000 * 1000, /* the same where the server asks for an answer */
    BACKOFF_FIRST_MS = 250,
    BACKOFF_LAST_MS = 30000,
    AWAKE_US = 5 * 1000 * 1000, /* between parts, the longest without a statement: the server's limit is 60 s */
    STOP_US = 5 * 1000 * 1000,  /* how long a stop waits for the batch under way */
    KEEP_BYTES = 4 << 20,
    BATCHES = 3,            /* one collects, one is written, one is made ready behind it */
    MESSAGES_A_TURN = 20000 /* then the loop comes round, for status and results */
};

struct pj_pipeline {
    const struct pj_pipeline_options *options;
    enum pipeline_state state, after_closing;
    uv_loop_t loop;
    uv_poll_t stop;
    uv_async_t wake; /* the gate's and the handover's */
    uv_timer_t tick, retry;
    int open_parts; /* connections being closed */

    struct pj_decoder *decoder;
    struct pj_intake intake;
    struct pj_applier *applier;
    struct pj_careful *careful;
    pj_lsn careful_until; /* the fast way has failed before this position: the careful one up to it; 0: the fast one */
    struct pj_reader *reader;
    struct pj_batch *batches[BATCHES], *collecting;
    struct pj_batch *spare[BATCHES]; /* neither collecting nor being applied */
    int nspare;
    struct pj_pace pace;
    enum held held;
    struct pj_copydata held_message;

    pj_lsn received, applied, confirmed;
    pj_lsn reaches;   /* the open transaction ends beyond this: where its latest message stands */
    pj_lsn keepalive; /* the latest keepalive's position; 0: none yet on this connection */
    uint64_t status_us, ping_us, position_us, schema_us, data_us, stop_us;
    uint64_t heartbeat_us; /* of this stream: HEARTBEAT_US at most */
    uint64_t apply_us; /* when what is being applied was begun; between parts: when the last was done, or asked after */
    struct pj_relay *relay;        /* taken up once the read side is ready; NULL: all is opened anew */
    struct pj_session *first_read; /* the caller's session, for the first connect */
    PGconn *kept;                  /* when another outfit is to be used: the applying connection, if it is in order */
    int backoff_ms;
    struct pj_trouble trouble;
    struct pj_causes refusals; /* projections whose apply() refuses rows: what the log was told */
    bool hurried;              /* the last connect followed a failure at once, and nothing was committed since */
    enum purpose purpose;

    uv_work_t connect_work, resolve_work, schema_work, careful_work;
    enum source_job source_job;
    enum applying applying; /* but NORMALLY: one, too */
    struct pj_batch *careful_batch;
    bool careful_commit;
    struct pj_checkpoint careful_believed;
    struct pj_error careful_error;
    struct {
        uv_work_t work;
        PGconn *conn; /* the applier's; NULL: lost */
        struct pj_batch *batch;
        bool commit;
        struct pj_checkpoint believed;
        int in_a_row; /* since something was committed */
        struct pj_error cause, error;
    } reread; /* pipeline_reread.c */
    struct pj_connections connections;
    bool resolve_partition;      /* what the resolve job looks up */
    char *condition, *ancestors; /* what it found */
    struct pj_error connect_error, resolve_error, schema_error;
    struct pj_error *error; /* of pj_pipeline_run */
    struct pj_figures figures;
    bool in_parts;     /* of the transaction handed over last, the end has not been handed over yet */
    bool reading;      /* the socket is watched */
    uint64_t heard_us; /* when the write database was heard last, or the socket was left unread */

    /* HALTED: the lock is kept by a session of its own (pipeline_halt.c) */
    uv_work_t halt_work;
    struct pj_session *halt_lock; /* NULL: not had yet */
    bool halt_locking, halt_mine;
    int halt_refused; /* how often in a row somebody else had it */
    int halt_pid;     /* backend of the session that has it, or had it last; 0: none yet */
    uint64_t halt_us;
    struct pj_error halt_error;
};

/* pipeline.c */
uint64_t pj_pipeline_now(struct pj_pipeline *p); /* microseconds, monotonic */
void pj_pipeline_enter(struct pj_pipeline *p, enum pipeline_state state);
bool pj_pipeline_running(const struct pj_pipeline *p); /* STREAMING or RESOLVING */
/* Says what happened, once, closes everything, and decides what comes of it: another try, a halt, the end. */
void pj_pipeline_fail(struct pj_pipeline *p, const struct pj_error *cause);
/* The trouble is over (core/trouble.h); committed: something was, and not only the connections are open again. */
void pj_pipeline_relax(struct pj_pipeline *p, bool committed);
void pj_pipeline_close(struct pj_pipeline *p, enum pipeline_state next); /* CLOSING; then `next` */
void pj_pipeline_closed_so_far(struct pj_pipeline *p);                   /* a connection or a job is done with */

void pj_pipeline_go_on_leaving(struct pj_pipeline *p); /* another outfit is offered: does what is possible now */
void pj_pipeline_leave(struct pj_pipeline *p);         /* the same, with PJ_ERELOAD */
void pj_pipeline_finish(struct pj_pipeline *p);        /* ends the loop; nothing is open any more */

/* pipeline_connect.c */
void pj_pipeline_connect(struct pj_pipeline *p); /* enters CONNECTING */
struct pj_connect_options pj_pipeline_connect_options(struct pj_pipeline *p);

/* pipeline_watch.c */
void pj_pipeline_watch_schema(struct pj_pipeline *p); /* nothing where another job reads the source's catalog */

/* pipeline_reread.c. Where a batch has failed for a catalog that has changed: has it applied again once that is read; else false. */
bool pj_pipeline_reread(struct pj_pipeline *p, const struct pj_error *error);

/* pipeline_relay.c */
void pj_pipeline_accept_relay(struct pj_pipeline *p);    /* the caller's, if it is of use */
bool pj_pipeline_may_relay(const struct pj_pipeline *p); /* the stream is at a point where it can be left to the next */
/* Leaves it, once the reader has let go of it (`closed`), and all that is collected: the pipeline has none any more. */
void pj_pipeline_leave_relay(struct pj_pipeline *p, void (*closed)(void *context));
void pj_pipeline_take_up_relay(struct pj_pipeline *p); /* positions and batches; after the applier has its connection */
void pj_pipeline_pass_relay_on(struct pj_pipeline *p); /* as it is: yet another outfit is to be used */
void pj_pipeline_drop_relay(struct pj_pipeline *p);

/* pipeline_halt.c */
void pj_pipeline_keep_lock(struct pj_pipeline *p); /* to be called now and then while HALTED */

/* pipeline_receive.c */
void pj_pipeline_pump(
    struct pj_pipeline *p); /* takes what has come, applies what is ready, says how to be woken again */
void pj_pipeline_readable(void *context);
void pj_pipeline_look_up(struct pj_pipeline *p); /* RESOLVING: starts the job, if it can be started now */

/* pipeline_apply.c */
void pj_pipeline_publish(struct pj_pipeline *p);      /* the figures */
void pj_pipeline_spare_all(struct pj_pipeline *p);    /* nothing is collected or applied */
void pj_pipeline_collect_anew(struct pj_pipeline *p); /* into a batch that is spare: there must be one */
void pj_pipeline_status(struct pj_pipeline *p, bool reply_wanted);
bool pj_pipeline_apply_idle(const struct pj_pipeline *p);
bool pj_pipeline_apply_open(const struct pj_pipeline *p); /* a transaction of several parts is open */
bool pj_pipeline_drained(const struct pj_pipeline *p);
/* Between two parts of the careful way, for as long as the next takes to come: lets the server know that we are there. */
void pj_pipeline_stay_awake(struct pj_pipeline *p);
bool pj_pipeline_may_leave(struct pj_pipeline *p); /* apply stands at a commit, and has no whole one left to do */
/* The gate advances to a position beyond which the transaction ends that is being collected; no part of it is applied. */
bool pj_pipeline_beyond_gate(const struct pj_pipeline *p);
bool pj_pipeline_gate_lets_read(struct pj_pipeline *p);
void pj_pipeline_mind_gate(struct pj_pipeline *p);
void pj_pipeline_apply_ready(struct pj_pipeline *p);
void pj_pipeline_apply_batch(struct pj_pipeline *p, struct pj_batch *batch, bool commit);
void pj_pipeline_applied(void *context, struct pj_batch *batch, bool committed);
void pj_pipeline_apply_failed(void *context, const struct pj_error *error);

#endif
