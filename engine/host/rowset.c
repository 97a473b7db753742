/*
 * An open-addressing hash over rows that stand in one growing array. This is the hot path: a message's change passes
 * here two or three times, so combining works in place, and a batch's memory is kept for the next.
 */
#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "host/rowset.h"

#include <stdlib.h>

struct pj_rowset_slot {
    uint32_t hash;
    uint32_t row; /* its number plus one; 0: free */
};

enum { FIRST_SLOTS = 64, FIRST_ROWS = 32 };

void pj_rowset_init(struct pj_rowset *set, const struct pj_stream_column *columns, int width, int nkey)
{
    memset(set, 0, sizeof *set);
    set->columns = columns;
    set->width = width;
    set->nkey = nkey;
}

void pj_rowset_free(struct pj_rowset *set)
{
    pj_free(set->rows);
    pj_free(set->sorted);
    pj_free(set->slots);
    pj_rowset_init(set, set->columns, set->width, set->nkey);
}

/* A batch that was much smaller than what the set has grown to gives the memory back: emptying costs by its size. */
void pj_rowset_reset(struct pj_rowset *set)
{
    if (set->nslots > 1024 && set->count < set->nslots / 32)
        pj_rowset_free(set);
    else if (set->count)
        memset(set->slots, 0, set->nslots * sizeof *set->slots);
    set->count = set->nsorted = 0;
}

/* By what is in it, not by what it has grown to for others. A row has at most four slots. */
size_t pj_rowset_bytes(const struct pj_rowset *set)
{
    return set->count * ((size_t)set->width * sizeof(struct pj_value) + 4 * sizeof *set->slots);
}

/* --------------------------------------------------------------------------------------------------------- lookup */

static uint32_t hash_of(const struct pj_value *key, int nkey)
{
    uint64_t hash = 0;
    for (int i = 0; i < nkey; i++) {
        size_t length = key[i].length > 0 ? (size_t)key[i].length : 0;
        hash = XXH3_64bits_withSeed(length ? key[i].data : (const void *)"", length,
                                    hash + (uint64_t)(int64_t)key[i].length);
    }
    return (uint32_t)(hash ^ hash >> 32);
}

static bool same_key(const struct pj_value *a, const struct pj_value *b, int nkey)
{
    for (int i = 0; i < nkey; i++)
        if (!pj_equal(a[i], b[i]))
            return false;
    return true;
}

static struct pj_value *row_at(const struct pj_rowset *set, size_t row)
{
    return set->rows + row * (size_t)set->width;
}

/* The slot of the key, or the free one where it belongs. */
static struct pj_rowset_slot *find(const struct pj_rowset *set, const struct pj_value *key, uint32_t hash)
{
    size_t mask = set->nslots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct pj_rowset_slot *slot = &set->slots[i];
        if (!slot->row || (slot->hash == hash && same_key(row_at(set, slot->row - 1), key, set->nkey)))
            return slot;
    }
}

bool pj_rowset_has(const struct pj_rowset *set, const struct pj_value *key)
{
    return set->count && find(set, key, hash_of(key, set->nkey))->row;
}

static void grow_slots(struct pj_rowset *set)
{
    struct pj_rowset_slot *old = set->slots;
    size_t nold = set->nslots;
    set->nslots = nold ? nold * 2 : FIRST_SLOTS;
    set->slots = pj_alloc(set->nslots * sizeof *set->slots);
    for (size_t i = 0; i < nold; i++) {
        size_t at = old[i].hash & (set->nslots - 1);
        if (!old[i].row)
            continue;
        while (set->slots[at].row)
            at = (at + 1) & (set->nslots - 1);
        set->slots[at] = old[i];
    }
    pj_free(old);
}

static void grow_rows(struct pj_rowset *set)
{
    set->capacity = set->capacity ? set->capacity * 2 : FIRST_ROWS;
    set->rows = pj_realloc(set->rows, set->capacity * (size_t)set->width * sizeof *set->rows);
}

/* ------------------------------------------------------------------------------------------------------- combining */

static void set_int64(struct pj_value *value, struct pj_arena *arena, int64_t number)
{
    unsigned char *bytes = value->data ? (unsigned char *)(uintptr_t)value->data : pj_arena_alloc(arena, 8);
    *value = pj_make_int64(number, bytes);
}

/* Bytes of the rows lie in the arena and are ours to write to. */
static void set_bytes(struct pj_value *value, struct pj_arena *arena, struct pj_value from)
{
    if (pj_is_null(from)) {
        *value = from;
        return;
    }
    size_t length = (size_t)from.length;
    unsigned char *bytes = value->data && from.length <= value->length ? (unsigned char *)(uintptr_t)value->data
                                                                       : pj_arena_alloc(arena, length);
    if (length)
        memcpy(bytes, from.data, length);
    value->data = bytes;
    value->length = from.length;
}

static int add_up(struct pj_value *sum, struct pj_arena *arena, struct pj_value more, struct pj_error *error)
{
    int64_t total;
    if (pj_is_null(more))
        return PJ_OK;
    if (__builtin_add_overflow(pj_int64(*sum), pj_int64(more), &total))
        return pj_error_set(error, PJ_EDATA, "a sum is out of bigint's range");
    set_int64(sum, arena, total);
    return PJ_OK;
}

static int combine(enum pj_combine how, struct pj_value *into, struct pj_arena *arena, struct pj_value value,
                   struct pj_error *error)
{
    if (how == PJ_SUM)
        return add_up(into, arena, value, error);
    if (how == PJ_KEY || pj_is_null(value))
        return PJ_OK;
    if (how == PJ_LAST || pj_is_null(*into) || (how == PJ_MIN) == (pj_int64(value) < pj_int64(*into)))
        set_bytes(into, arena, value);
    return PJ_OK;
}

static void add_new(struct pj_rowset *set, struct pj_arena *arena, const struct pj_value *row)
{
    if (set->count == set->capacity)
        grow_rows(set);
    struct pj_value *into = row_at(set, set->count++);
    for (int i = 0; i < set->width; i++) {
        into[i] = pj_make_null();
        if (set->columns && set->columns[i].combine == PJ_SUM)
            set_int64(&into[i], arena, pj_is_null(row[i]) ? 0 : pj_int64(row[i]));
        else
            set_bytes(&into[i], arena, row[i]);
    }
}

int pj_rowset_add(struct pj_rowset *set, struct pj_arena *arena, const struct pj_value *row, struct pj_error *error)
{
    if (set->count * 2 >= set->nslots)
        grow_slots(set);
    uint32_t hash = hash_of(row, set->nkey);
    struct pj_rowset_slot *slot = find(set, row, hash);
    if (!slot->row) {
        add_new(set, arena, row);
        *slot = (struct pj_rowset_slot){hash, (uint32_t)set->count};
        return PJ_OK;
    }
    struct pj_value *into = row_at(set, slot->row - 1);
    for (int i = set->nkey; i < set->width; i++) {
        int code = combine(set->columns[i].combine, &into[i], arena, row[i], error);
        if (code != PJ_OK)
            return pj_error_wrap(error, "column %s", set->columns[i].name);
    }
    return PJ_OK;
}

/* --------------------------------------------------------------------------------------------------------- sorting */

struct order {
    uint64_t prefix; /* of the first key value: decides nearly always */
    const struct pj_value *row;
};

static uint64_t prefix_of(struct pj_value value)
{
    uint64_t prefix = 0;
    for (int32_t i = 0; i < 8; i++)
        prefix = prefix << 8 | (i < value.length ? value.data[i] : 0);
    return prefix;
}

static int compare_values(struct pj_value a, struct pj_value b)
{
    int32_t common = a.length < b.length ? a.length : b.length;
    int order = common > 0 ? memcmp(a.data, b.data, (size_t)common) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_rows(const void *left, const void *right, void *context)
{
    const struct order *a = left, *b = right;
    const struct pj_rowset *set = context;
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? -1 : 1;
    int order = 0;
    for (int i = 0; i < set->nkey && order == 0; i++)
        order = compare_values(a->row[i], b->row[i]);
    return order;
}

static size_t list(const struct pj_rowset *set, const struct pj_rowset *without, const struct pj_rowset *nor,
                   struct order *rows)
{
    size_t count = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct pj_value *row = row_at(set, i);
        if (!(without && pj_rowset_has(without, row)) && !(nor && pj_rowset_has(nor, row)))
            rows[count++] = (struct order){prefix_of(row[0]), row};
    }
    return count;
}

void pj_rowset_sort(struct pj_rowset *set, const struct pj_rowset *without, const struct pj_rowset *nor)
{
    size_t width = (size_t)set->width;
    struct order *rows = pj_alloc(set->count * sizeof *rows);
    set->nsorted = list(set, without, nor, rows);
    qsort_r(rows, set->nsorted, sizeof *rows, compare_rows, set);
    if (set->sorted_capacity < set->nsorted) {
        set->sorted_capacity = set->capacity;
        set->sorted = pj_realloc(set->sorted, set->capacity * width * sizeof *set->sorted);
    }
    for (size_t i = 0; i < set->nsorted; i++)
        memcpy(set->sorted + i * width, rows[i].row, width * sizeof *set->sorted);
    pj_free(rows);
}

void pj_rowset_sort_none(struct pj_rowset *set)
{
    set->nsorted = 0;
}
