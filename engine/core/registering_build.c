/*
 * A projection's table built beside and swapped in, from the registrar's side. Two outfits after the one in use:
 *
 *      in use ------------------- with the next one beside ---------------- with the next one in the former's place
 *             prepare   hand over                          fill   open, swap   hand over             drop the former
 *
 * The pipeline stands still from the swap's commit until it has the second outfit; so that is made ready before, as far
 * as it can be: only its number is read afterwards. What fails before the swap's commit is undone; whether an error is
 * from before or from after it, the catalog's roster number says.
 */
#include "core/build.h"
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/standing.h"
#include "core/statements.h"

#include <stdio.h>

struct stage {
    struct pj_registering *r;
    const struct pj_deployed_module *module;
    struct pj_module_name name;
    struct pj_mend mend;
    struct pj_build build;
    struct pj_outfit *beside; /* the handover's once offered */
    struct pj_outfit *after;  /* NULL: not opened, or given away */
    bool offered;             /* the pipeline takes it when it can: there is nothing to undo any more */
};

/* --------------------------------------------------------------------------------------------------- up to the swap */

static void set_up(struct stage *stage, const struct pj_request *request)
{
    char beside[80];
    snprintf(beside, sizeof beside, "%s%s", stage->name.text, PJ_NEXT_NAME);
    struct pj_projection *next = pj_outfit_projection(stage->beside, beside);
    stage->mend = pj_registering_mend(stage->r, next, request);
    stage->build = (struct pj_build){.mend = &stage->mend,
                                     .next = next,
                                     .setup = &stage->beside->setup,
                                     .name = stage->name.text,
                                     .keep_old = request->keep_old,
                                     .drop_later = true, /* when the pipeline has gone on */
                                     .request = request->id,
                                     .verify = request->verify,
                                     .from_kept = request->kind == PJ_REQUEST_ROLLBACK,
                                     .log = stage->r->log};
}

/* What the pipeline could not prepare of the new one would hold it up; what the server refuses of the others has them
 * paused. The session, which goes on to fill the table, must keep nothing of it: plans for a few rows by index are no
 * plans for a whole table. */
static int try_statements(struct stage *stage, struct pj_error *error)
{
    struct pj_session *work = stage->r->work;
    const struct pj_error *refusal = &stage->build.next->refusal;
    struct pj_error ignored;
    int code = pj_statements_prepare(work, &stage->beside->setup, error);
    int forgotten = pj_statements_forget(work, code == PJ_OK ? error : &ignored);
    if (code != PJ_OK || forgotten != PJ_OK)
        return code == PJ_OK ? forgotten : code;
    if (refusal->code != PJ_OK)
        *error = *refusal;
    return refusal->code;
}

/* Once every batch notes what it touches. */
static int begin(struct stage *stage, const struct pj_request *request, struct pj_error *error)
{
    struct pj_registering *r = stage->r;
    stage->beside = pj_outfit_make(r, NULL, stage->module, true, error);
    if (!stage->beside)
        return error->code;
    set_up(stage, request);
    int code = pj_build_index_mirrors(&stage->build, error); /* before anything is noted, for it may take long */
    if (code == PJ_OK)
        code = pj_build_prepare(&stage->build, error);
    if (code == PJ_OK && request->waited)
        code = pj_request_put_off(r->look, request->id, NULL, error);
    if (code == PJ_OK)
        code = pj_outfit_check(r, stage->beside, NULL, error);
    if (code == PJ_OK)
        code = try_statements(stage, error);
    if (code != PJ_OK) {
        struct pj_error ignored; /* what is left goes when it is begun again, or at the next rest */
        bool there;
        if (!error->in_use) /* what was left before, and nothing was added to it */
            pj_build_clear(r->work, stage->name.text, &there, &ignored);
        pj_outfit_free(stage->beside);
        stage->beside = NULL;
        return code;
    }
    return pj_outfit_hand_over(r, stage->beside, error);
}

static int open_after(struct stage *stage, struct pj_error *error)
{
    stage->after = pj_outfit_make(stage->r, stage->name.text, stage->module, false, error);
    if (!stage->after)
        return error->code;
    struct pj_projection *serving = pj_outfit_projection(stage->after, stage->name.text);
    int code = pj_projection_describe_as(stage->r->look, serving, stage->build.next->target_sql, error);
    return code == PJ_OK ? pj_outfit_check(stage->r, stage->after, serving, error) : code;
}

/* A daemon that had to make itself ready anew meanwhile has not noted what its batches touched. */
static int still_noting(struct stage *stage, struct pj_error *error)
{
    if (pj_outfit_in_use(stage->r) == stage->beside)
        return PJ_OK;
    pj_error_set(error, PJ_EFAIL, "the daemon has begun anew meanwhile");
    error->retryable = true;
    return error->code;
}

/* -------------------------------------------------------------------------------------------------------- the swap */

/* Whether the catalog has moved on from the outfit in use: then the swap has been committed, whatever its answer
 * was. */
static int has_swapped(struct stage *stage, bool *swapped, struct pj_error *error)
{
    int64_t roster;
    int code = pj_standing_roster(stage->r->look, &roster, error);
    *swapped = code == PJ_OK && stage->after && roster != stage->after->roster;
    if (*swapped)
        stage->after->roster = roster;
    return code;
}

static int swap(struct stage *stage, struct pj_error *error)
{
    bool swapped;
    int code = open_after(stage, error);
    if (code == PJ_OK)
        code = still_noting(stage, error);
    if (code == PJ_OK)
        code = pj_build_swap(&stage->build, error);
    if (code != PJ_OK)
        return code;
    code = has_swapped(stage, &swapped, error);
    if (code != PJ_OK)
        return code;
    struct pj_outfit *after = stage->after;
    stage->after = NULL;
    stage->offered = true;
    stage->r->request = 0; /* what stands cannot be cancelled */
    pj_outfit_offer(stage->r, after);
    return pj_outfit_await(stage->r, after, error);
}

/* ---------------------------------------------------------------------------------------------------------- undoing */

/* In new sessions, for those that it had may have been lost with what failed. */
static int undo(struct stage *stage, struct pj_error *error)
{
    struct pj_registering *r = stage->r;
    bool swapped = false, there;
    pj_registering_close(r);
    int code = pj_registering_open(r, error);
    if (code == PJ_OK)
        code = has_swapped(stage, &swapped, error);
    struct pj_outfit *then = NULL;
    if (code == PJ_OK && swapped) {
        then = stage->after;
        stage->after = NULL;
    } else if (code == PJ_OK) {
        then = pj_outfit_make(r, NULL, NULL, false, error);
        code = then ? pj_outfit_check(r, then, NULL, error) : error->code;
    }
    if (code != PJ_OK) {
        pj_outfit_free(then);
        return code;
    }
    code = pj_outfit_hand_over(r, then, error);
    if (code == PJ_OK && !swapped)
        code = pj_build_clear(r->work, stage->name.text, &there, error);
    return code;
}

/* The error stays the one that was; that undoing failed, too, is said in the log. What is left goes when it is begun
 * again. */
static void fall_back(struct stage *stage, const struct pj_error *cause)
{
    struct pj_error error;
    if (pj_stop_asked(stage->r->stop)) /* the daemon ends */
        return;
    if (stage->beside && !stage->offered && undo(stage, &error) != PJ_OK) {
        pj_error_wrap(&error, "after \"%.200s\"", cause->message);
        pj_log_error(stage->r->log, PJ_LOG_WARNING, &error);
    }
}

/* Those that are chained on the table. The new one is in place whatever becomes of them: what fails here is done
 * again by whoever looks next (the registrar at its next rest, a daemon's first survey). */
static void catch_up_chained(struct stage *stage)
{
    struct pj_error error;
    if (pj_registering_catch_up(stage->r, &error) != PJ_OK && !pj_stop_asked(stage->r->stop))
        pj_log_error(stage->r->log, PJ_LOG_WARNING, &error);
}

/* The new one is in place all the same: what somebody reads is dropped later, and so is what was kept before. */
static int drop_former(struct pj_registering *r, const char *name, struct pj_error *error)
{
    int code = pj_build_drop_replaced(r->work, name, error);
    r->untidy = true;
    return code == PJ_OK || code == PJ_ESTOPPED ? code : pj_registering_put_off(r, name, error);
}

int pj_registering_tidy_build(struct pj_registering *r, const char *name, struct pj_error *error)
{
    bool there;
    int code = pj_build_clear(r->work, name, &there, error);
    return code == PJ_OK ? drop_former(r, name, error) : code;
}

/* Of a build that was begun before, by this daemon or a former one. */
int pj_registering_give_up(struct pj_registering *r, const char *name, struct pj_error *error)
{
    const struct pj_deployment *used = &pj_outfit_in_use(r)->deployment;
    bool there, beside = false;
    for (int i = 0; i < used->nmodules; i++)
        beside = beside || used->modules[i].binding.beside;
    int code = PJ_OK;
    if (beside) {
        struct pj_outfit *then = pj_outfit_make(r, NULL, NULL, false, error);
        code = then ? pj_outfit_check(r, then, NULL, error) : error->code;
        if (code == PJ_OK)
            code = pj_outfit_hand_over(r, then, error);
        else
            pj_outfit_free(then);
    }
    if (code == PJ_OK && pj_build_clear(r->work, name, &there, error) != PJ_OK)
        code = pj_registering_put_off(r, name, error);
    return code;
}

int pj_registering_build(struct pj_registering *r, const struct pj_deployed_module *module,
                         const struct pj_request *request, struct pj_error *error)
{
    struct stage stage = {.r = r, .module = module, .name = pj_deployed_name(module)};
    int code = begin(&stage, request, error);
    if (code == PJ_OK)
        code = pj_build_fill(&stage.build, error);
    if (code == PJ_OK)
        code = swap(&stage, error);
    if (code == PJ_OK)
        catch_up_chained(&stage);
    if (code == PJ_OK)
        code = drop_former(r, stage.name.text, error);
    else
        fall_back(&stage, pj_registering_not_again(error));
    r->untidy = r->untidy || code != PJ_OK;
    pj_outfit_free(stage.after);
    return code;
}
