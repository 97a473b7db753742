#include "base/mem.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

Test(mem, alloc_is_zeroed)
{
    unsigned char *memory = pj_alloc(1000);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(memory[i], 0);
    pj_free(memory);
    pj_free(NULL);
}

Test(mem, copies_text)
{
    char *part = pj_strndup("abcdef", 3), *text = pj_sprintf("%s-%d", part, 5);
    cr_assert_str_eq(part, "abc");
    cr_assert_str_eq(text, "abc-5");
    cr_assert_null(pj_strdup(NULL));
    pj_free(part);
    pj_free(text);
}

static void *no_memory(void *old, size_t size)
{
    (void)old, (void)size;
    return NULL;
}

Test(mem, ends_the_process_when_memory_is_gone, .signal = SIGABRT)
{
    pj_mem_set_realloc(no_memory);
    pj_alloc(1);
}

Test(mem, null_restores_the_allocator)
{
    pj_mem_set_realloc(no_memory);
    pj_mem_set_realloc(NULL);
    pj_free(pj_alloc(1));
}

Test(mem, arena_is_aligned_and_does_not_overlap)
{
    struct pj_arena arena;
    pj_arena_init(&arena);
    unsigned char *pieces[2000];
    for (int i = 0; i < 2000; i++) {
        pieces[i] = pj_arena_alloc(&arena, (size_t)(i % 700) + 1);
        cr_assert_eq((uintptr_t)pieces[i] % 8, 0);
        memset(pieces[i], i & 0xff, (size_t)(i % 700) + 1);
    }
    for (int i = 0; i < 2000; i++)
        for (int k = 0; k <= i % 700; k++)
            cr_assert_eq(pieces[i][k], i & 0xff);
    pj_arena_free(&arena);
}

Test(mem, arena_gives_large_pieces_a_block_of_their_own)
{
    struct pj_arena arena;
    pj_arena_init(&arena);
    unsigned char *small = pj_arena_alloc(&arena, 8);
    unsigned char *large = pj_arena_alloc(&arena, 10 << 20);
    unsigned char *next = pj_arena_alloc(&arena, 8);
    memset(large, 1, 10 << 20);
    cr_assert_eq(next, small + 8, "the block begun before is used on");
    pj_arena_free(&arena);
}

static int allocations;

static void *counting(void *old, size_t size)
{
    allocations++;
    return realloc(old, size);
}

Test(mem, arena_allocates_nothing_in_a_steady_stream)
{
    struct pj_arena arena;
    pj_arena_init(&arena);
    pj_mem_set_realloc(counting);
    int first = 0;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 10000; i++)
            pj_arena_alloc(&arena, 100);
        cr_assert_eq(arena.used, 10000 * 104);
        pj_arena_reset(&arena, 64 << 20);
        cr_assert_eq(arena.used, 0);
        first = round == 0 ? allocations : first;
    }
    cr_assert_gt(first, 0);
    cr_assert_eq(allocations, first);
    pj_arena_free(&arena);
}

Test(mem, arena_keeps_no_more_than_it_may)
{
    struct pj_arena arena;
    pj_arena_init(&arena);
    pj_arena_alloc(&arena, 100);
    pj_mem_set_realloc(counting);
    pj_arena_reset(&arena, 0);
    pj_arena_alloc(&arena, 100);
    cr_assert_eq(allocations, 1);
    pj_arena_free(&arena);
}
