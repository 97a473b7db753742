/* Between the files of registering: outfits made of parts of others. */
#ifndef PJ_CORE_REGISTERING_INTERNAL_H
#define PJ_CORE_REGISTERING_INTERNAL_H

#include "core/mend.h"
#include "core/registering.h"
#include "core/roster.h"

const struct pj_outfit *pj_outfit_in_use(const struct pj_registering *r);

/* What is in use, without the module of a name (NULL: with all) and with another (NULL: none more), `beside` or to
 * serve. Opened, but not checked against the read side. NULL: the error says why. */
struct pj_outfit *pj_outfit_make(struct pj_registering *r, const char *without, const struct pj_deployed_module *with,
                                 bool beside, struct pj_error *error);

/* What is in use, and these tables mirrored, too. */
struct pj_outfit *pj_outfit_make_wanting(struct pj_registering *r, const struct pj_wanted_table *tables, int count,
                                         struct pj_error *error);

/* Checks it against the read side; the projection `unless` (NULL: none) is taken as it is. */
int pj_outfit_check(struct pj_registering *r, struct pj_outfit *outfit, const struct pj_projection *unless,
                    struct pj_error *error);

struct pj_projection *pj_outfit_projection(const struct pj_outfit *outfit, const char *name);

/* Has the pipeline run it, and waits until it does; the outfit is the handover's from then on. Without a daemon it
 * is the one alone. */
int pj_outfit_hand_over(struct pj_registering *r, struct pj_outfit *outfit, struct pj_error *error);
/* The same, but without waiting. */
void pj_outfit_offer(struct pj_registering *r, struct pj_outfit *outfit);
int pj_outfit_await(struct pj_registering *r, const struct pj_outfit *outfit, struct pj_error *error);

/* PJ_ESTOPPED where the request that is under way was cancelled; asked on a session that is at rest. */
int pj_registering_check_cancelled(struct pj_registering *r, struct pj_session *session, struct pj_error *error);

/* A mend on the sessions. */
struct pj_mend pj_registering_mend(struct pj_registering *r, const struct pj_projection *projection,
                                   const struct pj_request *request);

/* --------------------------------------------------------------------------- core/registering_module.c: one module */

struct pj_candidate {
    struct pj_deployed_module *module;
    struct pj_module_name name;
    struct pj_roster_fact fact;
    struct pj_roster_role role;
    struct pj_outfit *outfit; /* with it in the former's place; not checked against the read side; NULL: given away */
};

/* Reads it into memory, where its image is not there yet. *target: whether it has a table. */
int pj_candidate_load(struct pj_deployed_module *module, bool *target, struct pj_error *error);

/* How it relates to the one of its name that the outfit has. */
enum pj_roster_memory pj_candidate_in_memory(const struct pj_outfit *outfit, const struct pj_deployed_module *module);

/* Makes the outfit, with all that it reads mirrored, which may take some time, and the role. */
int pj_candidate_decide(struct pj_registering *r, struct pj_candidate *c, struct pj_error *error);

/* Does what the role says. `request`: for a build; may be NULL where there is none. */
int pj_candidate_act(struct pj_registering *r, struct pj_candidate *c, const struct pj_request *request,
                     struct pj_error *error);

/* Where it could not be bound because it reads the table of a module that does not serve, that is what is wrong.
 * *upstream: its name, to be freed; NULL: it is something else. */
int pj_candidate_explain(struct pj_registering *r, struct pj_deployment *found, const struct pj_candidate *c,
                         char **upstream, struct pj_error *error);

/* ------------------------------------------------------------------------- core/registering_wake.c: standing still */

/* Resumes the projection, where it is paused because it stood still, or what it reads was replaced, and has its module. */
int pj_registering_wake_up(struct pj_registering *r, const char *name, struct pj_error *error);

/* Whether the error is a fault of one of those that are looked at, somebody is in its way, or has had it given up. Else it
 * is a database, or the daemon's end. */
bool pj_registering_goes_on_after(const struct pj_registering *r, const struct pj_error *error);

/* -------------------------------------------------------------------------------------------------------- the rest */

/* core/registering_build.c */
int pj_registering_build(struct pj_registering *r, const struct pj_deployed_module *module,
                         const struct pj_request *request, struct pj_error *error);
/* What is left to do of one whose swap has been committed; of one that is given up, begun before. */
int pj_registering_tidy_build(struct pj_registering *r, const char *name, struct pj_error *error);
int pj_registering_give_up(struct pj_registering *r, const char *name, struct pj_error *error);
/* Begun again by itself, what fills a disk would fill it each time, and the stream's transactions had no room either: so
 * it ends, and whoever asked is told. Returns `error`. */
const struct pj_error *pj_registering_not_again(struct pj_error *error);
/* core/registering_mirrors.c: sees to it that all tables of a setup are mirrored; `wanted_by`: for messages. *added:
 * another outfit is in use now, and this setup is out of date. Without a daemon that cannot be had, PJ_EFAIL. */
int pj_registering_mirrors(struct pj_registering *r, const struct pj_setup *setup, const char *wanted_by, bool *added,
                           struct pj_error *error);
/* core/registering_chain.c: puts those whose tables others read before these. */
int pj_registering_order(struct pj_registering *r, struct pj_deployment *found, struct pj_error *error);
/* The module whose table the module of that name reads, and which does not serve; NULL: none. To be freed. */
char *pj_registering_missing_upstream(struct pj_registering *r, struct pj_deployment *found, const char *name);
/* core/registering_remove.c */
int pj_registering_remove(struct pj_registering *r, const struct pj_request *request, struct pj_error *error);
/* Drops the tables that are to go (pgprojector.discarded); what others hang on stays, and is said in the log. */
int pj_registering_drop_discarded(struct pj_registering *r, struct pj_error *error);
/* core/registering_tidy.c: after an error in dropping `what`. PJ_OK: it was said in the log, and the rest may go on; what
 * somebody has open is left to pj_registering_tidy. Else the error: a database, or the daemon's end. */
int pj_registering_put_off(struct pj_registering *r, const char *what, struct pj_error *error);

#endif
