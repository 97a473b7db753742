/* See mem.h. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_SIZE = 256 * 1024 };

struct pj_arena_block {
    struct pj_arena_block *next;
    size_t size; /* of the bytes that follow */
};

static pj_realloc_fn reallocate = realloc;

void pj_mem_set_realloc(pj_realloc_fn replacement)
{
    reallocate = replacement ? replacement : realloc;
}

void *pj_realloc(void *old, size_t size)
{
    void *memory = reallocate(old, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "pgprojector: out of memory (%zu bytes wanted); ending, nothing is lost\n", size);
        abort();
    }
    return memory;
}

void *pj_alloc(size_t size)
{
    void *memory = pj_realloc(NULL, size);
    memset(memory, 0, size);
    return memory;
}

void pj_free(void *memory)
{
    free(memory);
}

char *pj_strndup(const char *text, size_t length)
{
    char *copy = pj_realloc(NULL, length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *pj_strdup(const char *text)
{
    return text ? pj_strndup(text, strlen(text)) : NULL;
}

char *pj_sprintf(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = pj_realloc(NULL, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void pj_arena_init(struct pj_arena *arena)
{
    memset(arena, 0, sizeof *arena);
}

static void free_blocks(struct pj_arena_block *block)
{
    while (block) {
        struct pj_arena_block *next = block->next;
        pj_free(block);
        block = next;
    }
}

void pj_arena_free(struct pj_arena *arena)
{
    free_blocks(arena->blocks);
    free_blocks(arena->spare);
    pj_arena_init(arena);
}

void pj_arena_reset(struct pj_arena *arena, size_t keep)
{
    size_t kept = 0;
    for (struct pj_arena_block *block = arena->spare; block; block = block->next)
        kept += block->size;
    while (arena->blocks) {
        struct pj_arena_block *block = arena->blocks;
        arena->blocks = block->next;
        if (block->size == BLOCK_SIZE && kept + block->size <= keep) {
            block->next = arena->spare;
            arena->spare = block;
            kept += block->size;
        } else {
            pj_free(block);
        }
    }
    arena->next = arena->end = NULL;
    arena->used = 0;
}

/* A block of its own for what is large; else a fresh block, whose rest serves the requests to come. */
void *pj_arena_slow(struct pj_arena *arena, size_t size)
{
    size_t block_size = size > BLOCK_SIZE / 4 ? size : BLOCK_SIZE;
    struct pj_arena_block *block = arena->spare;
    if (block && block_size == BLOCK_SIZE) {
        arena->spare = block->next;
    } else {
        block = pj_realloc(NULL, sizeof *block + block_size);
        block->size = block_size;
    }
    block->next = arena->blocks;
    arena->blocks = block;
    arena->used += size;
    unsigned char *memory = (unsigned char *)(block + 1);
    if (block_size == BLOCK_SIZE) {
        arena->next = memory + size;
        arena->end = memory + block_size;
    }
    return memory;
}
