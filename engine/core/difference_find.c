/*
 * Where a mirror and its source disagree: both servers compute two hashes of each row, one of its key, which chooses a
 * bucket, and one of the rest; here both are made one, these are summed by bucket, and the buckets whose sums are not
 * alike are the scope. (Grouping by bucket within the servers took twice their CPU: 3.3 s each for 3 million rows, against
 * 1.6 s and 0.3 s here; hashing the key once more with the rest 0.1 to 0.3 s.)
 *
 * These are the servers' own hash functions, seven times as fast as digests of the rows' text. Were they to differ
 * between two versions, all buckets would disagree, and more would be fetched than needed; nothing would be missed.
 * Each value counts as what it is, not as what it equals: types whose "=" overlooks something (1.0 and 1.00) are hashed
 * as text. What could be missed is a collision of 64 bits, and the seeds are drawn anew each time, so that nobody can
 * prepare one. (`verify` does not rely on that, and compares md5.)
 */
#include "core/difference_internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/verify_internal.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    BUCKET_ROWS = 4, /* 1 % of rows differing then means that 4 % are fetched */
    MOST_BUCKETS = 1 << 20,
    ROW_BYTES = 26,  /* two numbers of eight bytes, their lengths, and how many they are */
    FEW_ROWS = 2000, /* below, everything is fetched */
};

struct finding {
    const struct pj_table *table;
    int64_t nbuckets; /* a power of 2 */
    uint64_t seed;
    uint64_t *sums; /* of each bucket: the source's less the mirror's */
};

/* --------------------------------------------------------------------------------------------------- expressions */

static uint64_t draw_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        seed = pj_clock_monotonic_us();
    return seed;
}

/* A seed for a column, as a literal; NULL counts as another number. */
static int64_t seed_of(const struct finding *finding, int column, int purpose)
{
    uint64_t parts[3] = {finding->seed, (uint64_t)column, (uint64_t)purpose};
    return (int64_t)(XXH3_64bits(parts, sizeof parts) >> 1);
}

/* A timestamptz becomes a timestamp in UTC, every instant another one; by an interval, which is no more than an addition
 * (3 million rows with two of them: 0.2 s less than by a cast). */
static void put_function(struct pj_buf *sql, const struct pj_table_column *column, const char *prefix)
{
    static const char *const functions[] = {
        [PJ_UUID] = "uuid_hash_extended",
        [PJ_INT2] = "hashint2extended",
        [PJ_INT4] = "hashint4extended",
        [PJ_INT8] = "hashint8extended",
        [PJ_TIMESTAMP] = "timestamp_hash_extended",
        [PJ_TIMESTAMPTZ] = "timestamp_hash_extended",
    };
    const char *function = functions[column->type];
    bool with_zone = column->type == PJ_TIMESTAMPTZ;
    pj_buf_printf(sql, "pg_catalog.%s(%s%s", function ? function : "hashtextextended",
                  with_zone ? "pg_catalog.timezone('0'::pg_catalog.interval, " : "", prefix);
    pj_quote_identifier(sql, column->name);
    pj_buf_puts(sql, with_zone ? ")" : function ? "" : "::pg_catalog.text COLLATE \"C\"");
}

static void put_hash(struct pj_buf *sql, const struct finding *finding, const char *prefix, int column, int purpose)
{
    pj_buf_puts(sql, "coalesce(");
    put_function(sql, &finding->table->columns[column], prefix);
    pj_buf_printf(sql, ", %" PRId64 "), %" PRId64 ")", seed_of(finding, column, purpose),
                  seed_of(finding, column, purpose + 1));
}

static void put_key_hash(struct pj_buf *sql, const struct finding *finding, const char *prefix)
{
    for (int i = 0; i < finding->table->nkey; i++) {
        pj_buf_puts(sql, i ? " # " : "(");
        put_hash(sql, finding, prefix, finding->table->key[i], 1);
    }
    pj_buf_puts(sql, ")");
}

static void put_rest_hash(struct pj_buf *sql, const struct finding *finding)
{
    const struct pj_table *table = finding->table;
    const char *separator = "";
    for (int i = 0; i < table->ncolumns; i++) {
        bool in_key = false;
        for (int k = 0; k < table->nkey; k++)
            in_key = in_key || table->key[k] == i;
        if (in_key)
            continue;
        pj_buf_puts(sql, separator);
        put_hash(sql, finding, "", i, 3);
        separator = " # ";
    }
    pj_buf_puts(sql, *separator ? "" : "0::pg_catalog.int8");
}

static void put_bucket(struct pj_buf *sql, const struct finding *finding, const char *prefix)
{
    pj_buf_puts(sql, "(");
    put_key_hash(sql, finding, prefix);
    pj_buf_printf(sql, " & %" PRId64 ")", finding->nbuckets - 1);
}

/* A pair of numbers for each row, in binary. */
static char *hashes_sql(const struct finding *finding, const char *from)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "COPY (SELECT ");
    put_key_hash(&sql, finding, "");
    pj_buf_puts(&sql, ", ");
    put_rest_hash(&sql, finding);
    pj_buf_printf(&sql, " FROM %s) TO STDOUT (FORMAT binary)", from);
    return pj_buf_take(&sql);
}

/* ---------------------------------------------------------------------------------------------------------- sums */

static uint64_t number_at(const char *bytes)
{
    uint64_t number;
    memcpy(&number, bytes, sizeof number);
    return be64toh(number);
}

/*
 * A row in COPY's binary form: the number of columns, and each with its length. What else there is (the header, which
 * comes with the first row, and the trailer) is told by its length. The two numbers must not cancel: were they only added,
 * two rows of a bucket that have changed their contents would pass for what they were.
 */
static uint64_t row_hash(const struct finding *finding, const char *row, size_t length, int64_t *bucket)
{
    uint64_t numbers[2];
    *bucket = 0;
    if (length < ROW_BYTES)
        return 0;
    const char *at = row + length - ROW_BYTES;
    numbers[0] = number_at(at + 6);
    numbers[1] = number_at(at + 18);
    *bucket = (int64_t)(numbers[0] & (uint64_t)(finding->nbuckets - 1));
    return XXH3_64bits(numbers, sizeof numbers);
}

static void add_row(void *context, const char *row, size_t length)
{
    struct finding *finding = context;
    int64_t bucket;
    uint64_t hash = row_hash(finding, row, length, &bucket);
    finding->sums[bucket] += hash;
}

static void subtract_row(void *context, const char *row, size_t length)
{
    struct finding *finding = context;
    int64_t bucket;
    uint64_t hash = row_hash(finding, row, length, &bucket);
    finding->sums[bucket] -= hash;
}

/* Both servers compute at the same time. */
static int sum_buckets(struct pj_session *write, struct pj_session *read, struct finding *finding,
                       struct pj_error *error)
{
    static const pj_row_sink sinks[2] = {add_row, subtract_row};
    struct pj_session *const sessions[2] = {write, read};
    char *from = pj_verify_source_from(finding->table);
    char *source_sql = hashes_sql(finding, from), *mirror_sql = hashes_sql(finding, finding->table->mirror_sql);
    int code = pj_session_exec(write, source_sql, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, mirror_sql, error);
    if (code == PJ_OK)
        code = pj_difference_read_both(sessions, sinks, finding, error);
    pj_free(source_sql);
    pj_free(mirror_sql);
    pj_free(from);
    return code;
}

/* By the mirror's size alone, about: it is what can be spared from being fetched. */
static int choose_buckets(struct pj_session *read, struct finding *finding, int64_t *rows, struct pj_error *error)
{
    int code = pj_sample_size(read, finding->table->mirror_sql, rows, error);
    finding->nbuckets = 1;
    while (finding->nbuckets < MOST_BUCKETS && finding->nbuckets * BUCKET_ROWS < *rows)
        finding->nbuckets *= 2;
    return code;
}

/* --------------------------------------------------------------------------------------------------------- scope */

static void scope_all(struct pj_scope *scope)
{
    scope->source = pj_strdup("true");
    scope->mirror = pj_strdup("true");
}

/* An array is hashed by servers from version 14 on, which is a quarter quicker than a join with its elements. */
static char *condition(struct pj_session *session, const struct finding *finding, const char *prefix, const char *list)
{
    struct pj_buf sql = {0};
    bool hashed = PQserverVersion(pj_session_conn(session)) >= 140000;
    put_bucket(&sql, finding, prefix);
    pj_buf_printf(&sql, hashed ? " = ANY ('{%s}'::bigint[])" : " IN (SELECT pg_catalog.unnest('{%s}'::bigint[]))",
                  list);
    return pj_buf_take(&sql);
}

static void scope_suspects(struct pj_session *write, struct pj_session *read, const struct finding *finding,
                           struct pj_scope *scope, bool *agrees)
{
    struct pj_buf list = {0};
    int64_t suspects = 0;
    for (int64_t i = 0; i < finding->nbuckets; i++)
        if (finding->sums[i])
            pj_buf_printf(&list, "%s%" PRId64, suspects++ ? "," : "", i);
    *agrees = suspects == 0;
    if (suspects * 2 > finding->nbuckets) {
        scope_all(scope);
    } else if (suspects) {
        scope->source = condition(write, finding, "", pj_buf_text(&list));
        scope->mirror = condition(read, finding, "m.", pj_buf_text(&list));
    }
    pj_buf_free(&list);
}

int pj_difference_find(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                       struct pj_scope *scope, bool *agrees, struct pj_error *error)
{
    struct finding finding = {.table = table, .seed = draw_seed()};
    int64_t rows = 0;
    *agrees = false;
    int code = choose_buckets(read, &finding, &rows, error);
    if (code != PJ_OK)
        return code;
    if (rows < FEW_ROWS) {
        scope_all(scope);
        return PJ_OK;
    }
    finding.sums = pj_alloc((size_t)finding.nbuckets * sizeof *finding.sums);
    code = sum_buckets(write, read, &finding, error);
    if (code == PJ_OK)
        scope_suspects(write, read, &finding, scope, agrees);
    pj_free(finding.sums);
    return code;
}
