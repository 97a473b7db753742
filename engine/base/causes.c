/* See causes.h. */
#include "base/causes.h"

/* The cause's own entry, else an empty one, else the one said longest ago. */
static struct pj_cause *entry_for(struct pj_causes *causes, const struct pj_error *error)
{
    struct pj_cause *place = &causes->said[0];
    for (struct pj_cause *cause = causes->said; cause < causes->said + PJ_CAUSES; cause++) {
        if (pj_error_same_cause(&cause->error, error))
            return cause;
        if (place->error.code != PJ_OK && (cause->error.code == PJ_OK || cause->said_us < place->said_us))
            place = cause;
    }
    return place;
}

bool pj_causes_news(struct pj_causes *causes, const struct pj_error *error, uint64_t now_us, uint64_t anew_us)
{
    struct pj_cause *cause = entry_for(causes, error);
    uint64_t quiet_us = cause->over ? anew_us : PJ_SAY_AGAIN_US;
    if (pj_error_same_cause(&cause->error, error) && now_us - cause->said_us < quiet_us)
        return false;
    *cause = (struct pj_cause){.error = *error, .said_us = now_us};
    return true;
}

void pj_causes_over(struct pj_causes *causes)
{
    for (int i = 0; i < PJ_CAUSES; i++)
        causes->said[i].over = true;
}
