/* See state.h. */
#include "core/state.h"

#include "base/mem.h"
#include "core/waker.h"

#include <stdio.h>
#include <string.h>

struct pj_state {
    pthread_mutex_t lock;
    enum pj_phase phase;
    char message[2048];
    char hint[1024];
    struct pj_figures figures;
    struct pj_waker changed;
};

const char *pj_phase_word(enum pj_phase phase)
{
#define PHASE_WORD(name, word)                                                                                         \
    case name:                                                                                                         \
        return word;
    switch (phase) {
        PJ_PHASES(PHASE_WORD)
    }
#undef PHASE_WORD
    return "unknown";
}

struct pj_state *pj_state_new(void)
{
    struct pj_state *state = pj_alloc(sizeof *state);
    pthread_mutex_init(&state->lock, NULL);
    pj_waker_init(&state->changed);
    return state;
}

void pj_state_free(struct pj_state *state)
{
    if (!state)
        return;
    pj_waker_destroy(&state->changed);
    pthread_mutex_destroy(&state->lock);
    pj_free(state);
}

/* The length of a UTF-8 character that begins with this byte; 0 where none does. */
static size_t announced_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* The length of the UTF-8 character at `text`; 0 where there is none (the server would refuse such a text). */
static size_t character_length(const unsigned char *text)
{
    size_t length = announced_length(text[0]);
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
    bool beyond = (text[0] == 0xed && text[1] > 0x9f) || (text[0] == 0xf4 && text[1] > 0x8f);
    return overlong || beyond ? 0 : length;
}

/* Copies a text as UTF-8: what is none becomes '?', and what does not fit is cut at a character. */
static void copy_text(char *to, size_t size, const char *from)
{
    size_t used = 0;
    while (*from) {
        size_t length = character_length((const unsigned char *)from);
        size_t bytes = length ? length : 1;
        if (used + bytes >= size)
            break;
        memcpy(to + used, length ? from : "?", bytes);
        used += bytes;
        from += bytes;
    }
    if (size)
        to[used] = '\0';
}

/* Whether it changed anything. */
static bool replace_text(char *to, size_t size, const char *from)
{
    char before[2048];
    snprintf(before, sizeof before, "%s", to);
    copy_text(to, size, from ? from : "");
    return strcmp(before, to) != 0;
}

void pj_state_set(struct pj_state *state, enum pj_phase phase, const char *message, const char *hint)
{
    pthread_mutex_lock(&state->lock);
    bool changed = state->phase != phase;
    state->phase = phase;
    changed |= replace_text(state->message, sizeof state->message, message);
    changed |= replace_text(state->hint, sizeof state->hint, hint);
    pthread_mutex_unlock(&state->lock);
    if (changed)
        pj_waker_call(&state->changed);
}

enum pj_phase pj_state_get(struct pj_state *state, char *message, size_t message_size, char *hint, size_t hint_size)
{
    pthread_mutex_lock(&state->lock);
    enum pj_phase phase = state->phase;
    if (message)
        copy_text(message, message_size, state->message);
    if (hint)
        copy_text(hint, hint_size, state->hint);
    pthread_mutex_unlock(&state->lock);
    return phase;
}

void pj_state_on_change(struct pj_state *state, void (*wake)(void *context), void *context)
{
    pj_waker_set(&state->changed, wake, context);
}

void pj_state_set_figures(struct pj_state *state, const struct pj_figures *figures)
{
    pthread_mutex_lock(&state->lock);
    state->figures = *figures;
    pthread_mutex_unlock(&state->lock);
}

void pj_state_get_figures(struct pj_state *state, struct pj_figures *figures)
{
    pthread_mutex_lock(&state->lock);
    *figures = state->figures;
    pthread_mutex_unlock(&state->lock);
}
