/*
 * Random histories over a handful of keys, against a model that simply executes them. Whatever happens between two
 * batches, applying the batch's pairs to the mirror must give the source: nothing else is asked of it. A failing seed
 * is printed; SEED=n repeats it alone, SEEDS=n runs so many.
 */
#include "core/batch.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { KEYS = 6, COLUMNS = 5, STEPS = 120, TEXT = 16 };

/* c3 and c4 may be left out where an UPDATE does not change them, and so may the second key column of PAIR. */
enum { PLAIN, PAIR, INDEXED, FULL, TABLES };

static const struct batch_table descriptions[TABLES] = {
    {"plain", COLUMNS, 0x18, {0, -1}, {0, -1}, false},
    {"pair", COLUMNS, 0x1a, {0, 1, -1}, {0, 1, -1}, false},
    {"indexed", COLUMNS, 0x18, {1, -1}, {0, -1}, false},
    {"full", COLUMNS, 0x18, {0, -1}, {0, -1}, true},
};

/* A row as the model has it; "" in the first column: there is none. */
struct row {
    char column[COLUMNS][TEXT];
};

struct history {
    uint64_t seed, state;
    struct pj_table tables[TABLES];
    struct pj_batch *batch;
    struct row source[TABLES][KEYS], mirror[TABLES][KEYS]; /* by the number of their identity */
    struct pj_error error;
    int batches, truncates, moves;
};

static uint64_t draw(struct history *h, uint64_t below)
{
    uint64_t z = h->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % below;
}

static bool exists(const struct row *row)
{
    return row->column[0][0] != '\0';
}

/* The identity that has this number: keys of PAIR share their first column two by two. */
static void set_identity(struct row *row, int table, int number)
{
    snprintf(row->column[0], TEXT, "k%d", table == PAIR ? number / 2 : number);
    if (table == PAIR)
        snprintf(row->column[1], TEXT, "%s", number % 2 ? "odd" : "");
}

static void draw_value(struct history *h, char column[TEXT])
{
    static const char *const values[] = {"\\N", "", "a", "b", "toast"};
    snprintf(column, TEXT, "%s", values[draw(h, 5)]);
}

static struct row draw_row(struct history *h, int table, int number)
{
    struct row row;
    for (int i = 0; i < COLUMNS; i++)
        draw_value(h, row.column[i]);
    set_identity(&row, table, number);
    return row;
}

static const char *row_text(const struct row *row, char text[COLUMNS * TEXT])
{
    int length = 0;
    for (int i = 0; i < COLUMNS; i++)
        length += snprintf(text + length, TEXT + 1, "%s%s", i ? "|" : "", row->column[i]);
    return text;
}

static const char *identity_text(const struct history *h, int table, const struct row *row, char text[2 * TEXT])
{
    if (h->tables[table].nidentity == 1)
        snprintf(text, 2 * TEXT, "%s", row->column[0]);
    else
        snprintf(text, 2 * TEXT, "%s|%s", row->column[0], row->column[1]);
    return text;
}

/* ------------------------------------------------------------------------------------------------------- the source */

/* What the stream says of `after`: without toastable columns that `before` had as well, now and then. */
static struct row left_out(struct history *h, int table, const struct row *before, const struct row *after)
{
    struct row sent = *after;
    for (int i = 0; i < COLUMNS; i++)
        if (h->tables[table].columns[i].toastable && strcmp(before->column[i], after->column[i]) == 0 && draw(h, 2))
            strcpy(sent.column[i], "~");
    return sent;
}

static void collect(struct history *h, int table, enum pj_action action, const struct row *before,
                    const struct row *after)
{
    char identity[2 * TEXT], old[COLUMNS * TEXT], row[COLUMNS * TEXT];
    bool full = h->tables[table].identity_full;
    struct pj_row_change change = batch_change(
        &h->batch->arena, &h->tables[table], action, before && !full ? identity_text(h, table, before, identity) : NULL,
        before && full ? row_text(before, old) : NULL, after ? row_text(after, row) : NULL);
    int code = pj_batch_change(h->batch, &change, &h->error);
    cr_assert_eq(code, PJ_OK, "seed %llu: %s", (unsigned long long)h->seed, h->error.message);
}

static void make(struct history *h, int table, int number)
{
    h->source[table][number] = draw_row(h, table, number);
    collect(h, table, PJ_INSERT, NULL, &h->source[table][number]);
}

static void change_row(struct history *h, int table, int number)
{
    struct row before = h->source[table][number], after = before;
    for (int i = 1; i < COLUMNS; i++)
        if (!(table == PAIR && i == 1) && draw(h, 3) == 0)
            draw_value(h, after.column[i]);
    struct row sent = left_out(h, table, &before, &after);
    collect(h, table, PJ_UPDATE, &before, &sent);
    h->source[table][number] = after;
}

/* To another identity, if that is free; the other columns may change along. */
static void move_row(struct history *h, int table, int number)
{
    int to = (int)draw(h, KEYS);
    if (exists(&h->source[table][to]))
        return;
    struct row before = h->source[table][number], after = before;
    set_identity(&after, table, to);
    for (int i = 2; i < COLUMNS; i++)
        if (draw(h, 4) == 0)
            draw_value(h, after.column[i]);
    struct row sent = left_out(h, table, &before, &after);
    collect(h, table, PJ_UPDATE, &before, &sent);
    h->source[table][number] = (struct row){0};
    h->source[table][to] = after;
    h->moves++;
}

static void take_away(struct history *h, int table, int number)
{
    collect(h, table, PJ_DELETE, &h->source[table][number], NULL);
    h->source[table][number] = (struct row){0};
}

/* ------------------------------------------------------------------------------------------------------- the mirror */

static int number_of(const struct history *h, int table, const struct pj_value *identity)
{
    char text[2 * TEXT];
    for (int number = 0; number < KEYS; number++) {
        struct row row = {0};
        set_identity(&row, table, number);
        if (strcmp(identity_text(h, table, &row, text), batch_text(identity, h->tables[table].nidentity)) == 0)
            return number;
    }
    cr_assert(false, "seed %llu: an identity that nobody has", (unsigned long long)h->seed);
    return 0;
}

static void fetch_old_rows(struct history *h)
{
    char text[COLUMNS * TEXT];
    for (int t = 0; t < TABLES; t++)
        for (size_t i = 0; i < h->batch->tables[t].count; i++) {
            struct pj_row *row = h->batch->tables[t].rows[i];
            const struct row *old = &h->mirror[t][number_of(h, t, row->identity)];
            if (row->old_state == PJ_OLD_UNKNOWN && exists(old))
                pj_batch_set_old(row, batch_values(&h->batch->arena, row_text(old, text), COLUMNS));
        }
}

/* Whether values are this row of the model; `values` NULL: it has none. */
static bool is_row(const struct pj_value *values, const struct row *row)
{
    char text[COLUMNS * TEXT];
    if (!values || !exists(row))
        return !values && !exists(row);
    return strcmp(batch_text(values, COLUMNS), row_text(row, text)) == 0;
}

static void check_pair(struct history *h, int t, const struct pj_row *row, bool *seen)
{
    int number = number_of(h, t, row->identity);
    const struct row *before = &h->mirror[t][number], *after = &h->source[t][number];
    static const struct row none;
    unsigned long long seed = h->seed;
    cr_assert_not(seen[number], "seed %llu: two pairs of one row", seed);
    seen[number] = true;
    cr_assert(is_row(row->old, h->batch->tables[t].truncated ? &none : before), "seed %llu: old of %s.%d", seed,
              h->tables[t].name, number);
    cr_assert(is_row(row->new_row, after), "seed %llu: new of %s.%d", seed, h->tables[t].name, number);
    bool same = !row->old == !row->new_row && (!row->old || is_row(row->old, after));
    cr_assert_eq(pj_row_changed(&h->tables[t], row), !same, "seed %llu: changed or not, %s.%d", seed, h->tables[t].name,
                 number);
}

/* The pairs are right, and what has no pair has not changed. */
static void check_table(struct history *h, int t)
{
    const struct pj_table_rows *rows = &h->batch->tables[t];
    bool seen[KEYS] = {false};
    for (size_t i = 0; i < rows->count; i++)
        check_pair(h, t, rows->rows[i], seen);
    for (int number = 0; number < KEYS; number++) {
        const struct row *before = &h->mirror[t][number], *after = &h->source[t][number];
        char a[COLUMNS * TEXT], b[COLUMNS * TEXT];
        bool same = rows->truncated ? !exists(after) : strcmp(row_text(before, a), row_text(after, b)) == 0;
        cr_assert(seen[number] || same, "seed %llu: no pair for %s.%d: %s, %s", (unsigned long long)h->seed,
                  h->tables[t].name, number, row_text(before, a), row_text(after, b));
    }
}

/* The batch is applied, as far as it goes. */
static void settle(struct history *h)
{
    if (draw(h, 2))
        pj_batch_sort(h->batch);
    fetch_old_rows(h);
    int code = pj_batch_resolve(h->batch, &h->error);
    cr_assert_eq(code, PJ_OK, "seed %llu: %s", (unsigned long long)h->seed, h->error.message);
    for (int t = 0; t < TABLES; t++)
        check_table(h, t);
    memcpy(h->mirror, h->source, sizeof h->mirror);
    pj_batch_reset(h->batch, draw(h, 2) ? 1 << 20 : 0);
    h->batches++;
}

/* -------------------------------------------------------------------------------------------------------- histories */

static void truncate_table(struct history *h, int table)
{
    if (!pj_batch_truncate(h->batch, &h->tables[table])) {
        settle(h);
        cr_assert(pj_batch_truncate(h->batch, &h->tables[table]));
    }
    for (int number = 0; number < KEYS; number++)
        h->source[table][number] = (struct row){0};
    h->truncates++;
}

static void step(struct history *h)
{
    int table = (int)draw(h, TABLES), number = (int)draw(h, KEYS);
    uint64_t what = draw(h, 100);
    if (what < 2)
        truncate_table(h, table);
    else if (what < 6)
        settle(h);
    else if (!exists(&h->source[table][number]))
        make(h, table, number);
    else if (what < 40)
        change_row(h, table, number);
    else if (what < 75)
        move_row(h, table, number);
    else
        take_away(h, table, number);
}

static struct history play(uint64_t seed)
{
    struct history h = {.seed = seed, .state = seed};
    for (int t = 0; t < TABLES; t++)
        h.tables[t] = batch_table(t, &descriptions[t]);
    h.batch = pj_batch_new(h.tables, TABLES);
    pj_error_clear(&h.error);
    for (int i = 0; i < STEPS; i++)
        step(&h);
    settle(&h);
    pj_batch_free(h.batch);
    for (int t = 0; t < TABLES; t++)
        pj_table_free(&h.tables[t]);
    return h;
}

Test(batch_histories, applying_the_pairs_to_the_mirror_gives_the_source, .timeout = 300)
{
    const char *one = getenv("SEED"), *many = getenv("SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1, count = one ? 1 : many ? strtoull(many, NULL, 10) : 3000;
    int batches = 0, truncates = 0, moves = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct history h = play(seed);
        batches += h.batches;
        truncates += h.truncates;
        moves += h.moves;
    }
    cr_assert(one || (batches > 1000 && truncates > 1000 && moves > 1000), "the histories are too tame");
}
