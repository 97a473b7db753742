/* The decoder against the jansson reference: on recorded messages, on their beginnings, and on damaged ones. */
#include "reference/wal2json_reference.h"

#include "reference/wal2json_stage.h"

#include <dirent.h>

#define CORPUS "test/fuzz/corpus/fuzz_wal2json"
#define MESSAGE "{\"action\":\"M\""

struct corpus {
    char *messages[512];
    char *names[512];
    int count;
};

static char *read_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, CORPUS "/%s", name);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    char *text = pj_alloc(1 << 16);
    cr_assert_lt(fread(text, 1, (1 << 16) - 1, file), (1 << 16) - 1, "%s is too long", path);
    fclose(file);
    return text;
}

static struct corpus read_corpus(void)
{
    struct corpus corpus = {.count = 0};
    struct dirent *entry;
    DIR *dir = opendir(CORPUS);
    cr_assert_not_null(dir, "run from the top of the repository");
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && corpus.count < 512) {
            corpus.names[corpus.count] = pj_strdup(entry->d_name);
            corpus.messages[corpus.count++] = read_file(entry->d_name);
        }
    closedir(dir);
    cr_assert_gt(corpus.count, 30);
    return corpus;
}

static void free_corpus(struct corpus *corpus)
{
    for (int i = 0; i < corpus->count; i++) {
        pj_free(corpus->messages[i]);
        pj_free(corpus->names[i]);
    }
}

static void agree(const char *message, size_t length, const char *name)
{
    struct pj_row_change reference;
    enum reference_verdict verdict = reference_decode(fixture.map, message, length, 77, &arena, &reference);
    int code = decode_bytes(message, length);
    if (verdict == REFERENCE_CANNOT_TELL || (code != PJ_OK && reference_minus_zero(message, length)))
        return;
    cr_assert_eq(code == PJ_OK, verdict == REFERENCE_ACCEPTS, "%s: %.*s", name, (int)length, message);
    if (code == PJ_OK)
        cr_assert(reference_same(&change, &reference), "%s: %.*s", name, (int)length, message);
}

Test(wal2json, agrees_with_jansson_on_recorded_messages)
{
    struct corpus corpus = read_corpus();
    int rows = 0;
    for (int i = 0; i < corpus.count; i++) {
        if (strncmp(corpus.names[i], "recorded-", 9) == 0)
            accept(corpus.messages[i]);
        rows += change.table != NULL;
        agree(corpus.messages[i], strlen(corpus.messages[i]), corpus.names[i]);
    }
    cr_assert_gt(rows, 15, "only %d of the messages are rows of tables we know", rows);
    free_corpus(&corpus);
}

Test(wal2json, refuses_every_beginning_of_a_message)
{
    struct corpus corpus = read_corpus();
    for (int i = 0; i < corpus.count; i++) {
        if (strncmp(corpus.names[i], "recorded-", 9) != 0)
            continue;
        bool message = strncmp(corpus.messages[i], MESSAGE, strlen(MESSAGE)) == 0; /* it is nothing beyond that */
        size_t end = message ? strlen(MESSAGE) : strlen(corpus.messages[i]);
        for (size_t length = 0; length < end; length++)
            cr_assert_eq(decode_bytes(corpus.messages[i], length), PJ_EDATA, "%s, %zu bytes", corpus.names[i], length);
        pj_arena_reset(&arena, 1 << 20);
    }
    free_corpus(&corpus);
}

/* Bytes changed, doubled, dropped at random: the scanner and jansson go on agreeing. */
static size_t damage(char *message, size_t length, uint64_t *state)
{
    static const char bytes[] = "{}[]\",:\\0123456789-+.eE nulltruefalse\x80\xc3\xff\t\n\x01";
    for (int count = 1 + (int)(*state >> 60) % 3; count > 0 && length > 2; count--) {
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        size_t at = (size_t)(*state >> 33) % (length - 1);
        switch (*state >> 32 & 3) {
        case 0:
            memmove(message + at, message + at + 1, length - at - 1);
            length--;
            break;
        case 1:
            memmove(message + at + 1, message + at, length - at);
            length++;
            break;
        default:
            message[at] = bytes[(*state >> 40) % (sizeof bytes - 1)];
        }
    }
    return length;
}

Test(wal2json, agrees_with_jansson_on_damaged_messages)
{
    struct corpus corpus = read_corpus();
    const char *seed_text = getenv("SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : 20260131, state = seed;
    static char message[1 << 17];
    for (int round = 0; round < 20000; round++) {
        const char *original = corpus.messages[round % corpus.count];
        size_t length = strlen(original);
        memcpy(message, original, length);
        length = damage(message, length, &state);
        char name[64];
        snprintf(name, sizeof name, "SEED=%llu round %d", (unsigned long long)seed, round);
        agree(message, length, name);
        if (round % 1000 == 999)
            pj_arena_reset(&arena, 1 << 20);
    }
    free_corpus(&corpus);
}
