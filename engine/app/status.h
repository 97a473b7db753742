/* What `status` knows: gathered from both databases, each of which may be down; then printed for people or programs. */
#ifndef PJ_APP_STATUS_H
#define PJ_APP_STATUS_H

#include "app/app.h"
#include "core/catalog.h"
#include "core/source.h"
#include "core/stall.h"

#include <jansson.h>

struct pj_status_side {
    bool reachable;
    char error[2048], hint[512]; /* why not, or why it could not be read, and what to do; "" otherwise */
    int code;                    /* PJ_OK, or what connecting or asking came to */
};

struct pj_status {
    struct pj_status_side write, read;

    /* of the read database */
    bool installed;
    struct pj_checkpoint checkpoint;
    double applied_age_s; /* since the checkpoint was written, by the read database's clock; -1: unknown */
    bool daemon_known;
    char state[16], message[1024], hint[1024], host[128], version[32], started_at[40];
    int pid;
    double heartbeat_age_s;
    bool connected;        /* a daemon's control session is there, whatever it does */
    struct pj_stall stall; /* what its sessions stand still for */
    json_t *figures, *projections, *mirrors, *jobs, *requests, *unfit; /* owned; NULL where unknown */
    int64_t dead_letters;

    /* of the write database */
    pj_lsn current_lsn;
    double commit_age_s; /* since the last applied transaction's commit, by the write database's clock; -1: unknown */
    char slot_name[64];
    struct pj_slot slot;

    /* concluded */
    bool running, healthy;
    bool silent;       /* it does not report, and yet is not gone */
    double lag_s;      /* -1: unknown */
    int64_t lag_bytes; /* -1: unknown */
    char reason[768];  /* why it is not healthy; "" where it is */
};

void pj_status_gather(const struct pj_app *app, struct pj_status *status);
void pj_status_free(struct pj_status *status);

/* Draws the conclusions from what was gathered. Pure. */
void pj_status_conclude(struct pj_status *status);

/* Whether the slot may soon lose WAL that it needs; then the remedy is to be shown. Pure. */
bool pj_status_slot_in_danger(const struct pj_slot *slot);
extern const char pj_status_slot_remedy[];

/* The exit code's reason: a side's PJ_ECONFIG, PJ_EUNREACHABLE, PJ_EDEADLETTER, PJ_EUNHEALTHY, PJ_OK; the first that
 * applies. */
int pj_status_code(const struct pj_status *status);

void pj_status_print(const struct pj_status *status);
json_t *pj_status_json(const struct pj_status *status);

/* What they say of the slot alone. */
void pj_status_print_slot(const struct pj_status *status);
json_t *pj_status_slot_json(const struct pj_status *status);

#endif
