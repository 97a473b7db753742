/* The apply gate: which moves there are, who is woken by them, and that two threads always find each other. */
#include "core/gate.h"

#include "base/clock.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

static void count(void *context)
{
    ++*(atomic_int *)context;
}

Test(gate, is_open_at_first)
{
    struct pj_gate *gate = pj_gate_new();
    pj_lsn target = 7;
    cr_assert_eq(pj_gate_state(gate, &target), PJ_GATE_OPEN);
    cr_assert_eq(target, 0);
    pj_gate_free(gate);
}

Test(gate, goes_through_a_whole_fence_waking_the_other_side_each_time)
{
    struct pj_gate *gate = pj_gate_new();
    atomic_int requests = 0, progress = 0;
    pj_gate_on_request(gate, count, &requests);
    pj_gate_on_progress(gate, count, &progress);
    pj_lsn target;

    pj_gate_hold(gate);
    cr_assert_eq(pj_gate_state(gate, NULL), PJ_GATE_ASKED);
    cr_assert_eq(requests, 1);
    pj_gate_held(gate);
    cr_assert_eq(pj_gate_state(gate, NULL), PJ_GATE_HELD);
    cr_assert_eq(progress, 1);
    pj_gate_advance(gate, 0x1234);
    cr_assert_eq(pj_gate_state(gate, &target), PJ_GATE_ADVANCING);
    cr_assert_eq(target, 0x1234);
    cr_assert_eq(requests, 2);
    pj_gate_reached(gate);
    cr_assert_eq(pj_gate_state(gate, &target), PJ_GATE_REACHED);
    cr_assert_eq(target, 0x1234);
    cr_assert_eq(progress, 2);
    pj_gate_release(gate);
    cr_assert_eq(pj_gate_state(gate, &target), PJ_GATE_OPEN);
    cr_assert_eq(target, 0);
    cr_assert_eq(requests, 3);
    pj_gate_free(gate);
}

/* Puts a fresh gate into a state. */
static struct pj_gate *gate_in(enum pj_gate_state state)
{
    struct pj_gate *gate = pj_gate_new();
    if (state >= PJ_GATE_ASKED)
        pj_gate_hold(gate);
    if (state >= PJ_GATE_HELD)
        pj_gate_held(gate);
    if (state >= PJ_GATE_ADVANCING)
        pj_gate_advance(gate, 5);
    if (state >= PJ_GATE_REACHED)
        pj_gate_reached(gate);
    cr_assert_eq(pj_gate_state(gate, NULL), state);
    return gate;
}

static void do_hold(struct pj_gate *gate)
{
    pj_gate_hold(gate);
}
static void do_held(struct pj_gate *gate)
{
    pj_gate_held(gate);
}
static void do_advance(struct pj_gate *gate)
{
    pj_gate_advance(gate, 9);
}
static void do_reached(struct pj_gate *gate)
{
    pj_gate_reached(gate);
}

Test(gate, a_move_that_does_not_fit_changes_nothing_and_wakes_nobody)
{
    static const struct {
        void (*move)(struct pj_gate *gate);
        enum pj_gate_state from;
    } moves[] = {
        {do_hold, PJ_GATE_OPEN}, {do_held, PJ_GATE_ASKED}, {do_advance, PJ_GATE_HELD}, {do_reached, PJ_GATE_ADVANCING}};
    for (enum pj_gate_state state = PJ_GATE_OPEN; state <= PJ_GATE_REACHED; state++)
        for (size_t i = 0; i < sizeof moves / sizeof *moves; i++) {
            if (moves[i].from == state)
                continue;
            struct pj_gate *gate = gate_in(state);
            atomic_int woken = 0;
            pj_lsn before, after;
            pj_gate_on_request(gate, count, &woken);
            pj_gate_on_progress(gate, count, &woken);
            pj_gate_state(gate, &before);
            moves[i].move(gate);
            cr_assert_eq(pj_gate_state(gate, &after), state, "move %zu from state %d", i, state);
            cr_assert_eq(before, after);
            cr_assert_eq(woken, 0);
            pj_gate_free(gate);
        }
}

Test(gate, is_released_from_every_state)
{
    for (enum pj_gate_state state = PJ_GATE_OPEN; state <= PJ_GATE_REACHED; state++) {
        struct pj_gate *gate = gate_in(state);
        atomic_int requests = 0;
        pj_gate_on_request(gate, count, &requests);
        pj_gate_release(gate);
        cr_assert_eq(pj_gate_state(gate, NULL), PJ_GATE_OPEN);
        cr_assert_eq(requests, state == PJ_GATE_OPEN ? 0 : 1, "released from %d", state);
        pj_gate_free(gate);
    }
}

static void look(void *context)
{
    struct pj_gate *gate = context;
    cr_assert_eq(pj_gate_state(gate, NULL), PJ_GATE_ASKED); /* would hang if the lock were held */
}

Test(gate, a_callback_may_look_at_the_gate, .timeout = 10)
{
    struct pj_gate *gate = pj_gate_new();
    pj_gate_on_request(gate, look, gate);
    pj_gate_hold(gate);
    pj_gate_free(gate);
}

/* ------------------------------------------------------------------------------------------------- two threads */

enum { ROUNDS = 2000 };

struct pipeline {
    struct pj_gate *gate;
    atomic_ullong position; /* what has been applied */
    atomic_bool ending;
};

/* Applies one commit after the other, unless the gate says otherwise. */
static void *run_pipeline(void *context)
{
    struct pipeline *pipeline = context;
    while (!atomic_load(&pipeline->ending)) {
        pj_lsn target;
        switch (pj_gate_state(pipeline->gate, &target)) {
        case PJ_GATE_OPEN:
            atomic_fetch_add(&pipeline->position, 1);
            break;
        case PJ_GATE_ASKED:
            pj_gate_held(pipeline->gate);
            break;
        case PJ_GATE_ADVANCING:
            while (atomic_load(&pipeline->position) < target)
                atomic_fetch_add(&pipeline->position, 1);
            pj_gate_reached(pipeline->gate);
            break;
        case PJ_GATE_HELD:
        case PJ_GATE_REACHED:
            break;
        }
    }
    return NULL;
}

static void await(struct pj_gate *gate, enum pj_gate_state state)
{
    uint64_t deadline = pj_clock_monotonic_us() + 20000000;
    while (pj_gate_state(gate, NULL) != state) {
        cr_assert_lt(pj_clock_monotonic_us(), deadline, "state %d never came", state);
        poll(NULL, 0, 0);
    }
}

Test(gate, nothing_moves_while_it_is_held_and_it_stands_at_the_target_when_reached, .timeout = 60)
{
    struct pipeline pipeline = {.gate = pj_gate_new()};
    atomic_int requests = 0, progress = 0;
    pj_gate_on_request(pipeline.gate, count, &requests);
    pj_gate_on_progress(pipeline.gate, count, &progress);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, run_pipeline, &pipeline), 0);
    for (int round = 0; round < ROUNDS; round++) {
        pj_gate_hold(pipeline.gate);
        await(pipeline.gate, PJ_GATE_HELD);
        pj_lsn position = atomic_load(&pipeline.position);
        if (round % 3 == 0) { /* given up half-way */
            cr_assert_eq(atomic_load(&pipeline.position), position);
            pj_gate_release(pipeline.gate);
            continue;
        }
        pj_lsn target = position + (pj_lsn)(round % 5);
        pj_gate_advance(pipeline.gate, target);
        await(pipeline.gate, PJ_GATE_REACHED);
        cr_assert_eq(atomic_load(&pipeline.position), target);
        pj_gate_release(pipeline.gate);
    }
    atomic_store(&pipeline.ending, true);
    pthread_join(thread, NULL);
    int full = ROUNDS - (ROUNDS + 2) / 3;
    cr_assert_eq(atomic_load(&requests), 2 * ROUNDS + full);
    cr_assert_eq(atomic_load(&progress), ROUNDS + full);
    pj_gate_free(pipeline.gate);
}

struct waker {
    atomic_bool alive;
    atomic_int calls;
};

static void call_the_living(void *context)
{
    struct waker *waker = context;
    cr_assert(atomic_load(&waker->alive));
    atomic_fetch_add(&waker->calls, 1);
}

static void *knock(void *context)
{
    for (int i = 0; i < 20000; i++) {
        pj_gate_hold(context);
        pj_gate_release(context);
    }
    return NULL;
}

Test(gate, once_a_callback_is_taken_away_it_is_not_called_any_more, .timeout = 60)
{
    struct pj_gate *gate = pj_gate_new();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, knock, gate), 0);
    for (int i = 0; i < 2000; i++) {
        struct waker waker = {.alive = true};
        pj_gate_on_request(gate, call_the_living, &waker);
        pj_gate_on_request(gate, NULL, NULL);
        atomic_store(&waker.alive, false);
    }
    pthread_join(thread, NULL);
    pj_gate_free(gate);
}
