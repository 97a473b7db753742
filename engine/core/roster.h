/*
 * The roster: which modules, each in which role, made of the module directory, the catalog, and what is in memory. Its
 * story stands in ARCHITECTURE.md, "Registering while running".
 */
#ifndef PJ_CORE_ROSTER_H
#define PJ_CORE_ROSTER_H

#include "base/log.h"
#include "core/setup.h"

/* ------------------------------------------------------------------------------------------------ one module's role */

enum pj_roster_file { PJ_FILE_NONE, PJ_FILE_BROKEN, PJ_FILE_THERE };
enum pj_roster_row {
    PJ_ROW_NONE,
    PJ_ROW_SAME,   /* of this version and definition, its table there */
    PJ_ROW_OTHER,  /* of another, or the table is gone */
    PJ_ROW_RETIRED /* it was removed */
};
enum pj_roster_memory { PJ_MEMORY_NONE, PJ_MEMORY_SAME, PJ_MEMORY_OTHER /* another file, or bound otherwise */ };
enum pj_roster_wish { PJ_WISH_NONE, PJ_WISH_ADD, PJ_WISH_FRESH };

/* What is known of one module. */
struct pj_roster_fact {
    enum pj_roster_file file;
    enum pj_roster_row row;
    enum pj_roster_memory memory; /* as it serves: what is in memory is what the row was made by */
    enum pj_roster_wish wish;
    bool target; /* false: it only asks for mirrors and indexes, and has no row ever */
};

enum pj_roster_serve { PJ_SERVE_NOTHING, PJ_SERVE_MEMORY, PJ_SERVE_FILE };
enum pj_roster_note {
    PJ_NOTE_NONE,
    PJ_NOTE_GONE,        /* its file is gone; it goes on as it is in memory */
    PJ_NOTE_BROKEN,      /* its file does not load; it goes on as it is in memory */
    PJ_NOTE_BROKEN_NEW,  /* its file does not load, and it was never registered: left out */
    PJ_NOTE_STANDS_STILL /* it has a table, and nothing that maintains it */
};

struct pj_roster_role {
    enum pj_roster_serve serve;
    bool build; /* the file's table is to be built beside, and swapped in */
    enum pj_roster_note note;
};

/* A function of its argument. */
struct pj_roster_role pj_roster_decide(const struct pj_roster_fact *fact);

/* ---------------------------------------------------------------------------------------------------------- reading */

/* How the module of `projection`, bound as it is to serve, relates to the catalog. */
int pj_roster_row(struct pj_session *read, const struct pj_projection *projection, enum pj_roster_row *row,
                  struct pj_error *error);

/* Whether the catalog knows a projection of that name, *retired: as a removed one. */
int pj_roster_known(struct pj_session *read, const char *name, bool *known, bool *retired, struct pj_error *error);

/* The projection, live or removed, whose table it is by the catalog; NULL: none. To be freed. */
int pj_roster_keeper(struct pj_session *read, const char *schema, const char *table, char **name,
                     struct pj_error *error);

/* Lets the deployment want what the catalog lists as mirrors: they are maintained whoever asks for them, or they
 * would fall behind unnoticed. Those whose source is gone are left out, and said in the log (NULL: not). */
int pj_roster_want_mirrors(struct pj_deployment *deployment, struct pj_session *write, struct pj_session *read,
                           const struct pj_log *log, struct pj_error *error);

/* ------------------------------------------------------------------------------------------------- without a former */

/*
 * Opens the setup with what can serve by itself, and removes the rest from the deployment: modules that are new, of
 * another version or definition than their table, or removed, and those that read the table of one that is not there.
 * What was left out and why goes to the log (NULL: nowhere), and so does a registered module that does not load, or
 * does not fit the table of another that it reads. Before the first start is complete nothing is left out: then each
 * fault is an error.
 */
int pj_roster_open(struct pj_setup *setup, struct pj_deployment *deployment, struct pj_session *write,
                   struct pj_session *read, const struct pj_log *log, struct pj_error *error);

/* As pj_roster_open; a module whose file is of another version or definition than its table is taken from `former`
 * where its like is there, and serves. */
int pj_roster_open_again(struct pj_setup *setup, struct pj_deployment *deployment, struct pj_former_images *former,
                         struct pj_session *write, struct pj_session *read, const struct pj_log *log,
                         struct pj_error *error);

/* What the reason of a projection begins with that stands still because its module does not serve. */
#define PJ_STANDS_STILL "stands still: "

/* At a daemon's start, with its lock held: pauses all projections that the catalog has as live and the setup does
 * not have, so that nobody takes them for maintained, and notes that everything in them is to be recomputed. The
 * deployment says why. `log` may be NULL. */
int pj_roster_stand_still(const struct pj_setup *setup, const struct pj_deployment *deployment, struct pj_session *read,
                          const struct pj_log *log, struct pj_error *error);

#endif
