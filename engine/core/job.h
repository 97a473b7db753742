/* The progress of a command's long work: a row in pgprojector.job while it lasts, and a callback for the terminal. */
#ifndef PJ_CORE_JOB_H
#define PJ_CORE_JOB_H

#include "pg/session.h"

struct pj_progress {
    const char *kind, *name; /* "rebuild", the projection */
    const char *phase;       /* "comparing", "mending", "verifying" … */
    int64_t done, total;     /* keys of this phase; total -1: not known */
    double rate;             /* keys a second; 0: not known yet */
    double remaining_s;      /* -1: not known */
};

struct pj_job {
    struct pj_session *session; /* idle, not in a transaction, whenever one of the calls below is made */
    void (*show)(void *context, const struct pj_progress *progress); /* may be NULL */
    void *context;
    struct pj_progress now;
    int64_t request; /* of pgprojector.request: whoever cancels that means the job, too; 0: none */
    long long id;
    uint64_t phase_us, written_us; /* monotonic */
};

/* Enters the row, in place of one that an interrupted work of the same kind and name left. Creates the catalog's table
 * where an older version of the program made the catalog. */
int pj_job_begin(struct pj_job *job, const char *kind, const char *name, struct pj_error *error);

/* A new phase; `total` -1: not known. */
int pj_job_phase(struct pj_job *job, const char *phase, int64_t total, struct pj_error *error);

/* So much of the phase is done. Written and shown a few times a second; then PJ_ESTOPPED where somebody has asked
 * that the job be given up (pj_request_cancel). The same with a new phase. */
int pj_job_advance(struct pj_job *job, int64_t done, struct pj_error *error);

/* Only the question, from another session: PJ_ESTOPPED. While the job's own is busy. */
int pj_job_check(const struct pj_job *job, struct pj_session *session, struct pj_error *error);

/* Removes the row. After a failure, too; then on a best-effort basis. */
void pj_job_end(struct pj_job *job);

#endif
