/*
 * The apply gate: five states behind a mutex, and a waker for each side. The diagram stands in gate.h.
 *
 * A move that does not fit the state is no error but nothing: the requester may have released the gate (its deadline
 * passed, its session was lost) at the very moment when the pipeline reports what it had been asked for.
 */
#include "core/gate.h"

#include "base/mem.h"
#include "core/waker.h"

struct pj_gate {
    pthread_mutex_t lock;
    enum pj_gate_state state;
    pj_lsn target; /* of ADVANCING and REACHED; else 0 */
    struct pj_waker pipeline, requester;
};

struct pj_gate *pj_gate_new(void)
{
    struct pj_gate *gate = pj_alloc(sizeof *gate);
    pthread_mutex_init(&gate->lock, NULL);
    pj_waker_init(&gate->pipeline);
    pj_waker_init(&gate->requester);
    return gate;
}

void pj_gate_free(struct pj_gate *gate)
{
    if (!gate)
        return;
    pj_waker_destroy(&gate->requester);
    pj_waker_destroy(&gate->pipeline);
    pthread_mutex_destroy(&gate->lock);
    pj_free(gate);
}

void pj_gate_on_request(struct pj_gate *gate, pj_gate_wake_fn wake, void *context)
{
    pj_waker_set(&gate->pipeline, wake, context);
}

void pj_gate_on_progress(struct pj_gate *gate, pj_gate_wake_fn wake, void *context)
{
    pj_waker_set(&gate->requester, wake, context);
}

/* Moves from `from` to `to`, with a target where one is given; whether it did. */
static bool move(struct pj_gate *gate, enum pj_gate_state from, enum pj_gate_state to, const pj_lsn *target)
{
    pthread_mutex_lock(&gate->lock);
    bool fits = gate->state == from;
    if (fits) {
        gate->state = to;
        gate->target = target ? *target : gate->target;
    }
    pthread_mutex_unlock(&gate->lock);
    return fits;
}

void pj_gate_hold(struct pj_gate *gate)
{
    if (move(gate, PJ_GATE_OPEN, PJ_GATE_ASKED, NULL))
        pj_waker_call(&gate->pipeline);
}

void pj_gate_advance(struct pj_gate *gate, pj_lsn target)
{
    if (move(gate, PJ_GATE_HELD, PJ_GATE_ADVANCING, &target))
        pj_waker_call(&gate->pipeline);
}

void pj_gate_release(struct pj_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    bool closed = gate->state != PJ_GATE_OPEN;
    gate->state = PJ_GATE_OPEN;
    gate->target = 0;
    pthread_mutex_unlock(&gate->lock);
    if (closed)
        pj_waker_call(&gate->pipeline);
}

void pj_gate_held(struct pj_gate *gate)
{
    if (move(gate, PJ_GATE_ASKED, PJ_GATE_HELD, NULL))
        pj_waker_call(&gate->requester);
}

void pj_gate_reached(struct pj_gate *gate)
{
    if (move(gate, PJ_GATE_ADVANCING, PJ_GATE_REACHED, NULL))
        pj_waker_call(&gate->requester);
}

enum pj_gate_state pj_gate_state(struct pj_gate *gate, pj_lsn *target)
{
    pthread_mutex_lock(&gate->lock);
    enum pj_gate_state state = gate->state;
    if (target)
        *target = gate->target;
    pthread_mutex_unlock(&gate->lock);
    return state;
}
