/*
 * How fast is the decoder? Decodes the same messages by the engine's scanner and by jansson, both into rows in an
 * arena.
 *
 *     decode [FILE]     FILE: one wal2json message a line, of the tables public.messages and public.conversations;
 *                       without it, messages like those of the chat workload are made up
 *
 * Prints nanoseconds of processor time a message, MB/s, and the ratio; the best of several rounds.
 */
#include "../reference/table_fixture.h"
#include "../reference/wal2json_reference.h"

#include "base/buf.h"
#include "wire/wal2json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MADE_UP = 40000, ROUNDS = 15 };

struct recording {
    struct pj_buf bytes;
    size_t *ends;
    size_t count;
};

static void finish_message(struct recording *recording)
{
    recording->ends = pj_realloc(recording->ends, (recording->count + 1) * sizeof *recording->ends);
    recording->ends[recording->count++] = recording->bytes.length;
}

static uint32_t random32(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 32);
}

static void put_uuid(struct pj_buf *buf, uint64_t *state)
{
    uint32_t a = random32(state), b = random32(state), c = random32(state), d = random32(state);
    pj_buf_printf(buf, "\"%08x-%04x-4%03x-a%03x-%04x%08x\"", a, b >> 16, b & 0xfff, c & 0xfff, c >> 16, d);
}

static void put_time(struct pj_buf *buf, uint64_t *state)
{
    pj_buf_printf(buf, "\"2026-01-%02u %02u:%02u:%02u.%06u+00\"", random32(state) % 28 + 1, random32(state) % 24,
                  random32(state) % 60, random32(state) % 60, random32(state) % 1000000);
}

static void put_head(struct pj_buf *buf, const char *action, unsigned xid, uint64_t *state)
{
    pj_buf_printf(buf, "{\"action\":\"%s\",\"xid\":%u,\"timestamp\":", action, xid);
    put_time(buf, state);
}

static void make_message_insert(struct pj_buf *buf, unsigned xid, uint64_t *state)
{
    static const char words[] =
        "the quick brown fox jumps over the lazy dog and then some more text follows, as it does";
    put_head(buf, "I", xid, state);
    pj_buf_puts(buf, ",\"schema\":\"public\",\"table\":\"messages\",\"columns\":[{\"name\":\"id\",\"value\":");
    put_uuid(buf, state);
    pj_buf_puts(buf, "},{\"name\":\"conversation_id\",\"value\":");
    put_uuid(buf, state);
    pj_buf_puts(buf, "},{\"name\":\"sender_id\",\"value\":");
    put_uuid(buf, state);
    pj_buf_printf(buf,
                  "},{\"name\":\"sequence_number\",\"value\":%u},{\"name\":\"client_message_id\",\"value\":\"c-%u\"},"
                  "{\"name\":\"content\",\"value\":\"%.*s\"},{\"name\":\"created_at\",\"value\":",
                  random32(state) % 100000, random32(state), (int)(random32(state) % (sizeof words - 1)), words);
    put_time(buf, state);
    pj_buf_puts(buf, "},{\"name\":\"deleted_at\",\"value\":null}]}");
}

static void make_conversation_update(struct pj_buf *buf, unsigned xid, uint64_t *state)
{
    struct pj_buf id = {0};
    put_uuid(&id, state);
    put_head(buf, "U", xid, state);
    pj_buf_printf(buf,
                  ",\"schema\":\"public\",\"table\":\"conversations\",\"columns\":[{\"name\":\"id\",\"value\":%s},"
                  "{\"name\":\"tenant_id\",\"value\":",
                  id.data);
    put_uuid(buf, state);
    pj_buf_printf(buf,
                  "},{\"name\":\"title\",\"value\":\"Conversation %u\"},{\"name\":\"type\",\"value\":\"group\"},"
                  "{\"name\":\"created_at\",\"value\":",
                  random32(state) % 5000);
    put_time(buf, state);
    pj_buf_puts(buf, "},{\"name\":\"updated_at\",\"value\":");
    put_time(buf, state);
    pj_buf_printf(buf, "}],\"identity\":[{\"name\":\"id\",\"value\":%s}]}", id.data);
    pj_buf_free(&id);
}

/* Begin, insert, update, commit, over and over. */
static void make_up(struct recording *recording)
{
    uint64_t state = 42;
    for (unsigned i = 0; i < MADE_UP; i++) {
        unsigned xid = 1000 + i / 4;
        switch (i % 4) {
        case 0:
        case 3:
            put_head(&recording->bytes, i % 4 ? "C" : "B", xid, &state);
            pj_buf_puts(&recording->bytes, "}");
            break;
        case 1:
            make_message_insert(&recording->bytes, xid, &state);
            break;
        default:
            make_conversation_update(&recording->bytes, xid, &state);
        }
        finish_message(recording);
    }
}

static void read_recording(struct recording *recording, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(2);
    }
    while ((length = getline(&line, &room, file)) > 0) {
        pj_buf_put(&recording->bytes, line, (size_t)length - (line[length - 1] == '\n' ? 1 : 0));
        finish_message(recording);
    }
    free(line);
    fclose(file);
}

typedef int (*decode_fn)(void *decoder, const char *message, size_t length, struct pj_arena *arena,
                         struct pj_row_change *change, struct pj_error *error);

static int by_scanner(void *decoder, const char *message, size_t length, struct pj_arena *arena,
                      struct pj_row_change *change, struct pj_error *error)
{
    struct pj_decoder *scanner = decoder;
    return scanner->decode(scanner, message, length, 1, arena, change, error);
}

static int by_jansson(void *map, const char *message, size_t length, struct pj_arena *arena,
                      struct pj_row_change *change, struct pj_error *error)
{
    enum reference_verdict verdict = reference_decode(map, message, length, 1, arena, change);
    return verdict == REFERENCE_ACCEPTS ? PJ_OK : pj_error_set(error, PJ_EDATA, "jansson refuses it");
}

static uint64_t processor_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The best of several rounds, in microseconds; the arena is emptied every 4096 messages, as batches do. */
static double measure(const struct recording *recording, decode_fn decode, void *decoder)
{
    uint64_t best = UINT64_MAX;
    struct pj_arena arena;
    pj_arena_init(&arena);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = processor_ns();
        size_t at = 0;
        for (size_t i = 0; i < recording->count; i++) {
            struct pj_row_change change;
            struct pj_error error;
            if (decode(decoder, recording->bytes.data + at, recording->ends[i] - at, &arena, &change, &error)) {
                fprintf(stderr, "message %zu: %s\n", i + 1, error.message);
                exit(1);
            }
            at = recording->ends[i];
            if (i % 4096 == 4095)
                pj_arena_reset(&arena, 64 << 20);
        }
        uint64_t taken = processor_ns() - start;
        best = taken < best ? taken : best;
        pj_arena_reset(&arena, 64 << 20);
    }
    pj_arena_free(&arena);
    return (double)best / 1000;
}

static void print_line(const char *name, double us, const struct recording *recording)
{
    printf("%-8s %8.1f ns/message %9.1f MB/s\n", name, us * 1000 / (double)recording->count,
           (double)recording->bytes.length / us);
}

int main(int argc, char **argv)
{
    struct recording recording = {0};
    if (argc > 1)
        read_recording(&recording, argv[1]);
    else
        make_up(&recording);
    if (recording.count == 0)
        return 2;
    struct pj_table *messages = fixture_table(0, "public", "messages", fixture_messages);
    struct pj_table *conversations = fixture_table(1, "public", "conversations", fixture_conversations);
    struct pj_relmap *map = pj_relmap_new();
    pj_relmap_put(map, "public", "messages", messages);
    pj_relmap_put(map, "public", "conversations", conversations);
    struct pj_decoder *decoder = pj_wal2json_new(map);

    printf("%zu messages, %.0f bytes on average\n", recording.count,
           (double)recording.bytes.length / (double)recording.count);
    double scanner = measure(&recording, by_scanner, decoder), jansson = measure(&recording, by_jansson, map);
    print_line("scanner", scanner, &recording);
    print_line("jansson", jansson, &recording);
    printf("ratio    %8.1f\n", jansson / scanner);

    decoder->free(decoder);
    pj_relmap_free(map);
    fixture_table_free(messages);
    fixture_table_free(conversations);
    pj_free(recording.ends);
    pj_buf_free(&recording.bytes);
    return 0;
}
