/* See trouble.h. */
#include "core/trouble.h"

enum { SETTLED_US = 5 * 1000 * 1000 }; /* what was sent again has most likely come by then */

bool pj_trouble_met(struct pj_trouble *trouble, const struct pj_error *error, bool connecting, pj_lsn received,
                    uint64_t now_us)
{
    if (!connecting && error->code == PJ_EFAIL && error->sqlstate[0]) {
        trouble->cause = *error;
        trouble->reached = trouble->open && trouble->reached > received ? trouble->reached : received;
        trouble->open = true;
    }
    trouble->attempts++;
    bool news = pj_causes_news(&trouble->causes, error, now_us, error->storage ? PJ_SAY_ANEW_US : 0);
    trouble->told = trouble->told || news;
    return news;
}

bool pj_trouble_passed(const struct pj_trouble *trouble, bool committed, pj_lsn reaches)
{
    return committed || (trouble->open && reaches > trouble->reached);
}

bool pj_trouble_settled(const struct pj_trouble *trouble, pj_lsn received, uint64_t idle_us)
{
    return trouble->open && received > trouble->reached && idle_us > SETTLED_US;
}

int pj_trouble_end(struct pj_trouble *trouble, bool committed)
{
    bool worth = trouble->open && trouble->told && (trouble->attempts > 1 || trouble->cause.storage);
    int said = worth ? trouble->attempts : 0;
    trouble->open = trouble->told = false;
    trouble->attempts = 0;
    if (committed)
        pj_causes_over(&trouble->causes);
    return said;
}
