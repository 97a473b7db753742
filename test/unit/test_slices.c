/* Old rows too large to be held together: in which order they are worked off, and how many at once. */
#include "core/slices.h"

#include "reference/batch_fixture.h"

#include <criterion/criterion.h>

enum { TABLE, TABLES, IDS = 12, TEXT = 64 };

/* "id|number|wide": the stream leaves out what is wide and has not changed. */
static const struct batch_table by_key = {"rows", 3, 0x4, {0, -1}, {0, -1}, false};
static const struct batch_table by_index = {"rows", 3, 0x4, {1, -1}, {0, -1}, false};
static struct pj_table tables[TABLES];
static struct pj_batch *batch;
static struct pj_error error;
static char source[IDS][TEXT], mirror[IDS][TEXT]; /* "": no such row */

static void begin(const struct batch_table *description)
{
    tables[TABLE] = batch_table(TABLE, description);
    batch = pj_batch_new(tables, TABLES);
    pj_error_clear(&error);
    memset(source, 0, sizeof source);
    memset(mirror, 0, sizeof mirror);
}

static void end(void)
{
    pj_batch_free(batch);
    pj_table_free(&tables[TABLE]);
}

static void change(enum pj_action action, const char *identity, const char *row)
{
    struct pj_row_change made = batch_change(&batch->arena, &tables[TABLE], action, identity, NULL, row);
    cr_assert_eq(pj_batch_change(batch, &made, &error), PJ_OK, "%s", error.message);
}

/* Gives a row another number, another key, too, where `to` differs; the wide value stays, unsaid. */
static void update(int from, int to, int number)
{
    char identity[16], said[TEXT], wide[TEXT];
    snprintf(wide, sizeof wide, "%s", strrchr(source[from], '|') + 1);
    source[from][0] = '\0';
    snprintf(source[to], TEXT, "%d|%d|%.40s", to, number, wide);
    snprintf(identity, sizeof identity, "%d", from);
    snprintf(said, sizeof said, "%d|%d|~", to, number);
    change(PJ_UPDATE, identity, said);
}

static void insert(int id, int number)
{
    snprintf(source[id], TEXT, "%d|%d|wide %d", id, number, number);
    change(PJ_INSERT, NULL, source[id]);
}

static void delete (int id)
{
    char identity[16];
    snprintf(identity, sizeof identity, "%d", id);
    source[id][0] = '\0';
    change(PJ_DELETE, identity, NULL);
}

static int id_of(const struct pj_row *row)
{
    return atoi(batch_text(row->identity, 1));
}

/* All rows whose old is unknown are late, each of 10 bytes. */
static void make_late(void)
{
    const struct pj_table_rows *rows = &batch->tables[TABLE];
    for (size_t i = 0; i < rows->count; i++)
        if (rows->rows[i]->old_state == PJ_OLD_UNKNOWN)
            pj_batch_set_late(rows->rows[i], 10);
}

static void write_rows(struct pj_batch *part)
{
    const struct pj_table_rows *rows = &part->tables[TABLE];
    cr_assert_eq(pj_batch_resolve(part, &error), PJ_OK, "%s", error.message);
    for (size_t i = 0; i < rows->count; i++) {
        const struct pj_row *row = rows->rows[i];
        char *at = mirror[id_of(row)];
        cr_assert_str_eq(row->old ? batch_text(row->old, 3) : "", at, "the old row is the mirror's");
        snprintf(at, TEXT, "%s", row->new_row ? batch_text(row->new_row, 3) : "");
    }
}

/* Works the batch off with a budget of 40 bytes; returns how many slices that took, and the largest one's rows. */
static int work_off(size_t *largest)
{
    struct pj_slices *slices = pj_slices_new(batch, 160);
    const struct pj_slice *slice;
    int count = 0;
    for (*largest = 0; (slice = pj_slices_next(slices)); count++) {
        *largest = slice->nwanted > *largest ? slice->nwanted : *largest;
        for (size_t i = 0; i < slice->nwanted; i++) {
            const char *row = mirror[id_of(slice->wanted[i])];
            cr_assert(row[0], "what is wanted is in the mirror");
            pj_batch_set_old(slice->wanted[i], batch_values(&slice->batch->arena, row, 3));
        }
        write_rows(slice->batch);
    }
    write_rows(batch);
    pj_slices_free(slices);
    for (int id = 0; id < IDS; id++)
        cr_assert_str_eq(mirror[id], source[id]);
    return count;
}

static void fill(int count)
{
    for (int id = 0; id < count; id++)
        snprintf(mirror[id], TEXT, "%d|0|wide %d", id, id);
    memcpy(source, mirror, sizeof source);
}

Test(slices, a_row_has_its_share_of_the_cap_but_never_next_to_nothing)
{
    cr_expect_eq(pj_slices_share(8 << 20, 0), 8 << 20);
    cr_expect_eq(pj_slices_share(8 << 20, 1024), 8192);
    cr_expect_eq(pj_slices_share(8 << 20, 1000000), 256);
}

Test(slices, come_by_their_bytes_and_leave_the_other_rows_to_the_batch)
{
    size_t largest;
    begin(&by_key);
    fill(10);
    for (int id = 0; id < 9; id++)
        update(id, id, 1);
    delete (9);
    insert(10, 5);
    make_late();
    cr_expect_eq(work_off(&largest), 3);
    cr_expect_eq(largest, 4);
    cr_expect_eq(batch->tables[TABLE].count, 1, "the inserted one");
    end();
}

Test(slices, keys_that_move_up_are_written_from_the_end)
{
    size_t largest;
    begin(&by_key);
    fill(10);
    for (int id = 9; id >= 0; id--)
        update(id, id + 1, id);
    make_late();
    cr_expect_geq(work_off(&largest), 3);
    cr_expect_leq(largest, 4);
    end();
}

Test(slices, keys_that_go_round_in_a_circle)
{
    size_t largest;
    begin(&by_key);
    fill(10);
    update(9, 11, 9);
    for (int id = 8; id >= 0; id--)
        update(id, id + 1, id);
    update(11, 0, 9);
    make_late();
    cr_expect_geq(work_off(&largest), 3);
    cr_expect_leq(largest, 4);
    end();
}

Test(slices, rows_that_hand_primary_keys_on_stay_together)
{
    size_t largest;
    begin(&by_index);
    fill(10);
    for (int id = 0; id < 10; id++)
        update(id, id, 9 - id);
    make_late();
    cr_expect_eq(work_off(&largest), 1);
    end();
}

Test(slices, what_a_slice_has_written_is_unknown_to_the_batch_behind)
{
    size_t largest;
    struct pj_batch *first;
    begin(&by_key);
    fill(3);
    for (int id = 0; id < 3; id++)
        update(id, id, 1);
    insert(5, 1);
    make_late();
    work_off(&largest);
    first = batch;
    batch = pj_batch_new(tables, TABLES);
    update(0, 0, 2);
    update(5, 5, 2);
    cr_expect_eq(pj_batch_follow(batch, first, SIZE_MAX), 0);
    cr_expect_eq(batch_row(batch, TABLE, "0")->old_state, PJ_OLD_UNKNOWN);
    cr_expect_eq(batch_row(batch, TABLE, "5")->old_state, PJ_OLD_KNOWN);
    pj_batch_free(first);
    end();
}

Test(slices, what_would_take_too_much_of_the_batch_before_is_late)
{
    begin(&by_key);
    insert(1, 1);
    insert(2, 2);
    struct pj_batch *first = batch;
    batch = pj_batch_new(tables, TABLES);
    update(1, 1, 3);
    update(2, 2, 3);
    cr_expect_eq(pj_batch_follow(batch, first, 10), 1);
    cr_expect_eq(batch_row(batch, TABLE, "1")->old_state, PJ_OLD_KNOWN);
    cr_expect_eq(batch_row(batch, TABLE, "2")->old_state, PJ_OLD_LATE);
    cr_expect_eq(batch_row(batch, TABLE, "2")->old_bytes, 8);
    pj_batch_free(first);
    end();
}

Test(slices, unresolved_before_a_slice_all_is_to_be_fetched_again)
{
    begin(&by_key);
    fill(1);
    update(0, 0, 1);
    make_late();
    pj_batch_unresolve(batch);
    cr_expect_eq(batch_row(batch, TABLE, "0")->old_state, PJ_OLD_UNKNOWN);
    end();
}

Test(slices, a_reset_batch_has_forgotten_what_was_sliced)
{
    size_t largest;
    begin(&by_key);
    fill(2);
    update(0, 0, 1);
    update(1, 1, 1);
    make_late();
    work_off(&largest);
    pj_batch_reset(batch, 0);
    update(0, 0, 2);
    cr_expect_eq(batch->tables[TABLE].count, 1);
    end();
}

/* One step of a history: whatever is possible with a row. */
static void step(int id, int to, int number)
{
    if (!source[id][0])
        insert(id, number);
    else if (number % 5 == 0)
        delete (id);
    else if (number % 5 < 3 && !source[to][0])
        update(id, to, number);
    else
        update(id, id, number);
}

Test(slices, histories_of_which_anything_is_late)
{
    size_t largest;
    for (unsigned seed = 1; seed <= 2000; seed++) {
        srand(seed);
        begin(&by_key);
        fill(8);
        for (int i = 0; i < 30; i++)
            step(rand() % IDS, rand() % IDS, i + 1);
        const struct pj_table_rows *rows = &batch->tables[TABLE];
        for (size_t i = 0; i < rows->count; i++) {
            struct pj_row *row = rows->rows[i];
            if (row->old_state == PJ_OLD_UNKNOWN && rand() % 3)
                pj_batch_set_late(row, 10 + (unsigned)rand() % 30);
            else if (row->old_state == PJ_OLD_UNKNOWN)
                pj_batch_set_old(row, batch_values(&batch->arena, mirror[id_of(row)], 3));
        }
        work_off(&largest);
        end();
    }
}
