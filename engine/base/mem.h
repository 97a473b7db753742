/*
 * Memory. Three lifetimes: the process (pj_alloc), a batch (an arena, reset when the batch is done), a call (the
 * stack).
 *
 * Allocation never returns NULL: when memory is gone the process says so and ends. That is a decision, not an omission:
 * the daemon may be killed at any instant without losing or doubling anything, so ending is always safe, while
 * thousands of untestable error paths would not be. All of it goes through one function, which a test can replace.
 */
#ifndef PJ_BASE_MEM_H
#define PJ_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *pj_alloc(size_t size);                       /* zeroed; the caller frees with pj_free */
void *pj_realloc(void *old, size_t size);          /* new bytes are not zeroed */
void pj_free(void *memory);                        /* NULL is fine */
char *pj_strdup(const char *text);                 /* NULL gives NULL */
char *pj_strndup(const char *text, size_t length); /* copies `length` bytes and ends them with NUL */
char *pj_sprintf(const char *format, ...) __attribute__((format(printf, 1, 2))); /* the caller frees */

/* Replaces realloc() beneath all of the above; for tests. NULL restores it. */
typedef void *(*pj_realloc_fn)(void *old, size_t size);
void pj_mem_set_realloc(pj_realloc_fn replacement);

/*
 * An arena: memory that is given back all at once. Blocks are kept over a reset (up to `keep` bytes), so that a steady
 * stream of batches allocates nothing.
 */
struct pj_arena {
    struct pj_arena_block *blocks; /* the newest first */
    struct pj_arena_block *spare;
    unsigned char *next, *end; /* the free part of the newest block */
    size_t used;               /* bytes handed out since the last reset */
};

void pj_arena_init(struct pj_arena *arena);
void pj_arena_free(struct pj_arena *arena);               /* gives all back; may be used anew */
void pj_arena_reset(struct pj_arena *arena, size_t keep); /* forgets all; keeps at most `keep` bytes of blocks */
void *pj_arena_slow(struct pj_arena *arena, size_t size); /* the rare part of pj_arena_alloc */

/* `size` bytes, 8-byte aligned, not zeroed, valid until the next reset. */
static inline void *pj_arena_alloc(struct pj_arena *arena, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    if (size > (size_t)(arena->end - arena->next))
        return pj_arena_slow(arena, size);
    void *memory = arena->next;
    arena->next += size;
    arena->used += size;
    return memory;
}

#endif
