/*
 * Mirrors that are not there yet, from the registrar's side (core/joining.h has the story). Three outfits after the one
 * in use, all opened before anything is begun, for the pipeline stands still from the commit that makes the mirrors
 * exact until it has the second one:
 *
 *      in use ---------- noting: with the tables, joining ---------- exact: with the tables
 *             prepare, hand over                        run, hand over
 *                                   what fails: back to one like that in use, and the unfinished mirrors are dropped
 */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/joining.h"
#include "core/standing.h"

struct addition {
    struct pj_registering *r;
    struct pj_outfit *noting, *exact, *back; /* NULL: given away */
    struct pj_mend mend;
    struct pj_joining joining;
    char waiting[PJ_JOINING_WAITING];
    bool joined; /* the mirrors are exact: there is nothing to undo any more */
};

/* ---------------------------------------------------------------------------------------------------------- outfits */

/* An outfit's number is that of the catalog at the moment when it is handed over. */
static int hand_over(struct addition *addition, struct pj_outfit **outfit, struct pj_error *error)
{
    struct pj_registering *r = addition->r;
    struct pj_outfit *given = *outfit;
    int code = pj_standing_roster(r->look, &given->roster, error);
    if (code != PJ_OK)
        return code;
    *outfit = NULL;
    return pj_outfit_hand_over(r, given, error);
}

static struct pj_wanted_table *missing_of(const struct pj_setup *setup, const char *wanted_by, int *count)
{
    struct pj_wanted_table *tables = pj_alloc(sizeof *tables * (size_t)(setup->ntables + 1));
    *count = 0;
    for (int i = 0; i < setup->ntables; i++)
        if (setup->tables[i].joining)
            tables[(*count)++] = (struct pj_wanted_table){pj_strdup(setup->tables[i].schema),
                                                          pj_strdup(setup->tables[i].name), pj_strdup(wanted_by)};
    return tables;
}

static void free_missing(struct pj_wanted_table *tables, int count)
{
    for (int i = 0; i < count; i++)
        pj_wanted_table_free(&tables[i]);
    pj_free(tables);
}

static int open_outfits(struct addition *addition, const struct pj_setup *setup, const char *wanted_by,
                        struct pj_error *error)
{
    struct pj_registering *r = addition->r;
    int count, marked;
    struct pj_wanted_table *tables = missing_of(setup, wanted_by, &count);
    addition->noting = pj_outfit_make_wanting(r, tables, count, error);
    addition->exact = addition->noting ? pj_outfit_make_wanting(r, tables, count, error) : NULL;
    addition->back = addition->exact ? pj_outfit_make_wanting(r, NULL, 0, error) : NULL;
    free_missing(tables, count);
    if (!addition->back)
        return error->code;
    struct pj_setup *noting = &addition->noting->setup;
    int code = pj_joining_missing(r->look, noting->tables, noting->ntables, &marked, error);
    if (code == PJ_OK) /* of an attempt before, say; here they are what they will be */
        for (int i = 0; i < addition->exact->setup.ntables; i++)
            addition->exact->setup.tables[i].joining = false;
    return code == PJ_OK ? pj_outfit_check(r, addition->noting, NULL, error) : code;
}

/* ------------------------------------------------------------------------------------------------------------ steps */

/* Mirrors that are exact must be kept up: the request may be cancelled again when that is so. */
static int put_on_exact(struct addition *addition, struct pj_error *error)
{
    int64_t request = addition->r->request;
    addition->r->request = 0;
    int code = hand_over(addition, &addition->exact, error);
    addition->r->request = request;
    return code;
}

static int add(struct addition *addition, struct pj_error *error)
{
    /* the handover's, once given; it stays until another is in use */
    const struct pj_setup *setup = &addition->noting->setup;
    int code = pj_joining_prepare(&addition->joining, setup->tables, setup->ntables, error);
    if (code == PJ_OK)
        code = hand_over(addition, &addition->noting, error);
    if (code == PJ_OK)
        code = pj_joining_run(&addition->joining, setup->tables, setup->ntables, error);
    if (code != PJ_OK)
        return code;
    addition->joined = true;
    code = pj_outfit_check(addition->r, addition->exact, NULL, error);
    return code == PJ_OK ? put_on_exact(addition, error) : code;
}

/* In new sessions, for those that it had may have been lost with what failed. */
static int undo(struct addition *addition, struct pj_error *error)
{
    struct pj_registering *r = addition->r;
    int removed;
    pj_registering_close(r);
    int code = pj_registering_open(r, error);
    if (code == PJ_OK)
        code = pj_outfit_check(r, addition->back, NULL, error);
    if (code == PJ_OK)
        code = hand_over(addition, &addition->back, error);
    return code == PJ_OK ? pj_joining_clean(r->work, &removed, error) : code;
}

/* The error stays the one that was. What is left goes when it is begun again, or at the next survey. */
static void fall_back(struct addition *addition, const struct pj_error *cause)
{
    struct pj_error error;
    if (cause->in_use) /* nothing was begun: somebody reads what an attempt before has left */
        return;
    if (addition->joined || pj_stop_asked(addition->r->stop)) /* the daemon goes on with them by itself; or ends */
        return;
    if (undo(addition, &error) != PJ_OK) {
        addition->r->unfinished = true;
        pj_error_wrap(&error, "after \"%.200s\"", cause->message);
        pj_log_error(addition->r->log, PJ_LOG_WARNING, &error);
    }
}

static int no_daemon(const char *wanted_by, struct pj_error *error)
{
    pj_error_set(error, PJ_EFAIL, "%s reads tables that are not mirrored so far, and no daemon is running", wanted_by);
    return pj_error_hint(error,
                         "start the daemon: `pgprojector run` adds the mirrors, and takes the module up, by itself");
}

int pj_registering_mirrors(struct pj_registering *r, const struct pj_setup *setup, const char *wanted_by, bool *added,
                           struct pj_error *error)
{
    struct addition addition = {.r = r, .mend = pj_registering_mend(r, NULL, NULL)};
    const struct pj_deployment *deployment = &pj_outfit_in_use(r)->deployment;
    int count;
    int code = pj_joining_missing(r->look, setup->tables, setup->ntables, &count, error);
    *added = false;
    if (code != PJ_OK || !count)
        return code;
    if (!r->handover)
        return no_daemon(wanted_by, error);
    pj_log(r->log, PJ_LOG_INFO, "%s: %d mirror%s being added", wanted_by, count, count == 1 ? " is" : "s are");
    addition.joining = (struct pj_joining){.write_url = deployment->write_url,
                                           .read_url = deployment->read_url,
                                           .work = r->work,
                                           .job = &addition.mend.job,
                                           .jobs = deployment->jobs,
                                           .slot_wait_ms = deployment->slot_wait_ms,
                                           .stop = r->stop,
                                           .waiting = addition.waiting};
    code = open_outfits(&addition, setup, wanted_by, error);
    if (code == PJ_OK) {
        code = add(&addition, error);
        if (code != PJ_OK)
            fall_back(&addition, pj_registering_not_again(error));
    }
    *added = code == PJ_OK;
    pj_outfit_free(addition.noting);
    pj_outfit_free(addition.exact);
    pj_outfit_free(addition.back);
    return code;
}
