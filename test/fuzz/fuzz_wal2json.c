/*
 * libFuzzer target: whatever the bytes, the scanner and the jansson reference must agree on whether they are a message
 * and on what it says. `make fuzz` builds it and runs it on test/fuzz/corpus/fuzz_wal2json. The messages there are
 * also read by test/unit/test_wal2json.c, so that an input which once broke something stays tested.
 */
#include "../reference/table_fixture.h"
#include "../reference/wal2json_reference.h"

#include "wire/wal2json.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void disagree(const char *how, const struct pj_error *error)
{
    fprintf(stderr, "scanner and reference disagree: %s; %s\n", how, error->message);
    abort();
}

static void compare(int code, const struct pj_row_change *scanned, enum reference_verdict verdict,
                    const struct pj_row_change *reference, const struct pj_error *error, bool minus_zero)
{
    if (verdict == REFERENCE_CANNOT_TELL)
        return;
    if (code == PJ_OK && verdict == REFERENCE_REFUSES)
        disagree("only the scanner accepts it", error);
    if (code != PJ_OK && verdict == REFERENCE_ACCEPTS && !minus_zero)
        disagree("only the reference accepts it", error);
    if (code == PJ_OK && verdict == REFERENCE_ACCEPTS && !reference_same(scanned, reference))
        disagree("they read different things", error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fixture_map fixture = fixture_map_new();
    struct pj_decoder *decoder = pj_wal2json_new(fixture.map);
    struct pj_arena arena;
    struct pj_error error = {0};
    struct pj_row_change scanned, reference;
    pj_arena_init(&arena);
    enum reference_verdict verdict = reference_decode(fixture.map, (const char *)data, size, 1, &arena, &reference);
    /* twice: the second time with warm caches */
    for (int round = 0; round < 2; round++) {
        int code = decoder->decode(decoder, (const char *)data, size, 1, &arena, &scanned, &error);
        compare(code, &scanned, verdict, &reference, &error, reference_minus_zero((const char *)data, size));
    }
    pj_arena_free(&arena);
    decoder->free(decoder);
    fixture_map_free(&fixture);
    return 0;
}
