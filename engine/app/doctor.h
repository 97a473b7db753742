/* The examination: a list of findings, each fine, doubtful or wrong, with its remedy; and what the checks share. */
#ifndef PJ_APP_DOCTOR_H
#define PJ_APP_DOCTOR_H

#include "app/app.h"
#include "core/catalog.h"
#include "core/setup.h"

enum pj_level { PJ_FINE, PJ_WARN, PJ_FAIL };

struct pj_finding {
    enum pj_level level;
    char *check, *text, *remedy; /* remedy: "" where none is needed */
};

struct pj_doctor {
    struct pj_app *app;
    int count;
    struct pj_finding *findings;

    /* what earlier checks found, for later ones */
    struct pj_deployment deployment;
    struct pj_session *write, *read; /* NULL: could not be reached */
    struct pj_setup setup;
    bool setup_open, installed, initialised; /* installed: there is a catalog */
    struct pj_checkpoint checkpoint;
    int64_t write_skew_us, read_skew_us; /* of the server's clock against ours */
};

/* Adds a finding; `remedy` may be NULL. */
void pj_doctor_add(struct pj_doctor *doctor, enum pj_level level, const char *check, const char *remedy,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));

/* A check that has failed with an error; its hint is the remedy. */
void pj_doctor_add_error(struct pj_doctor *doctor, enum pj_level level, const char *check,
                         const struct pj_error *error);

/* Whether the session's role is shown more of other roles' sessions than pid and name: `seen`. */
void pj_doctor_check_sessions(struct pj_doctor *doctor, const char *check, struct pj_session *session, bool seen);

void pj_doctor_examine_write(struct pj_doctor *doctor);  /* doctor_write.c */
void pj_doctor_examine_read(struct pj_doctor *doctor);   /* doctor_read.c */
void pj_doctor_examine_tables(struct pj_doctor *doctor); /* doctor_tables.c: what both must agree on */

#endif
