/* See registering_internal.h. */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/mirror.h"
#include "core/standing.h"

#include <string.h>

enum { AWAIT_MS = 500 };

const struct pj_outfit *pj_outfit_in_use(const struct pj_registering *r)
{
    return r->handover ? pj_handover_in_use(r->handover) : r->alone;
}

static void put_together(struct pj_outfit *outfit, const struct pj_outfit *former, const char *without,
                         const struct pj_deployed_module *with, bool beside)
{
    outfit->deployment = pj_deployment_without_modules(&former->deployment);
    for (int i = 0; i < former->deployment.nmodules; i++) {
        const struct pj_deployed_module *module = &former->deployment.modules[i];
        bool left_out = without && strcmp(pj_deployed_name(module).text, without) == 0;
        if (!left_out && !module->binding.beside)
            pj_deployment_add(&outfit->deployment, module);
    }
    if (with)
        pj_deployment_add(&outfit->deployment, with)->binding.beside = beside;
}

/* NULL, and it is freed, where the error says why. */
static struct pj_outfit *opened(struct pj_registering *r, struct pj_outfit *outfit, struct pj_error *error)
{
    int code = pj_standing_roster(r->look, &outfit->roster, error);
    if (code == PJ_OK)
        code = pj_setup_open(&outfit->setup, &outfit->deployment, r->write, r->look, error);
    if (code == PJ_OK)
        return outfit;
    pj_outfit_free(outfit);
    return NULL;
}

struct pj_outfit *pj_outfit_make(struct pj_registering *r, const char *without, const struct pj_deployed_module *with,
                                 bool beside, struct pj_error *error)
{
    struct pj_outfit *outfit = pj_alloc(sizeof *outfit);
    put_together(outfit, pj_outfit_in_use(r), without, with, beside);
    return opened(r, outfit, error);
}

struct pj_outfit *pj_outfit_make_wanting(struct pj_registering *r, const struct pj_wanted_table *tables, int count,
                                         struct pj_error *error)
{
    struct pj_outfit *outfit = pj_alloc(sizeof *outfit);
    put_together(outfit, pj_outfit_in_use(r), NULL, NULL, false);
    for (int i = 0; i < count; i++)
        pj_deployment_want(&outfit->deployment, tables[i].schema, tables[i].name, tables[i].wanted_by);
    return opened(r, outfit, error);
}

int pj_outfit_check(struct pj_registering *r, struct pj_outfit *outfit, const struct pj_projection *unless,
                    struct pj_error *error)
{
    struct pj_setup *setup = &outfit->setup;
    int code = pj_mirror_check(r->look, setup->tables, setup->ntables, error);
    for (int i = 0; code == PJ_OK && i < setup->nprojections; i++)
        if (setup->projections[i].target_sql && &setup->projections[i] != unless)
            code = pj_projection_check_target(r->look, &setup->projections[i], error);
    return code;
}

struct pj_projection *pj_outfit_projection(const struct pj_outfit *outfit, const char *name)
{
    return pj_setup_projection(&outfit->setup, name);
}

void pj_outfit_offer(struct pj_registering *r, struct pj_outfit *outfit)
{
    if (r->handover) {
        pj_handover_offer(r->handover, outfit);
    } else {
        pj_outfit_free(r->alone);
        r->alone = outfit;
    }
}

/* As long as it takes, for databases that are down are waited for; but a request may be cancelled meanwhile. */
int pj_outfit_await(struct pj_registering *r, const struct pj_outfit *outfit, struct pj_error *error)
{
    int code = PJ_OK;
    if (!r->handover)
        return PJ_OK;
    do {
        struct pj_error asked;
        code = pj_handover_wait_streaming(r->handover, outfit, AWAIT_MS, r->stop, error);
        if (code == PJ_EUNREACHABLE && pj_registering_check_cancelled(r, r->look, &asked) == PJ_ESTOPPED) {
            *error = asked;
            code = asked.code;
        }
    } while (code == PJ_EUNREACHABLE);
    return code;
}

int pj_outfit_hand_over(struct pj_registering *r, struct pj_outfit *outfit, struct pj_error *error)
{
    pj_outfit_offer(r, outfit);
    return pj_outfit_await(r, outfit, error);
}

int pj_registering_check_cancelled(struct pj_registering *r, struct pj_session *session, struct pj_error *error)
{
    bool cancelled = false;
    int code = r->request ? pj_request_cancelled(session, r->request, &cancelled, error) : PJ_OK;
    return cancelled ? pj_error_set(error, PJ_ESTOPPED, "cancelled") : code;
}

struct pj_mend pj_registering_mend(struct pj_registering *r, const struct pj_projection *projection,
                                   const struct pj_request *request)
{
    return (struct pj_mend){
        .work = r->work,
        .job = {.session = r->look, .show = r->show, .context = r->context, .request = r->request},
        .projection = projection,
        .stop = r->stop,
        .options = {.chunk = request ? request->chunk : 0, .max_rate = request ? request->max_rate : 0},
    };
}
