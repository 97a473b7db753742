/*
 * Where a mirror and its source disagree: of each bucket of rows, chosen by a hash of the key, both servers compute the
 * number of rows and the sum of a hash of each row; the buckets that are not alike are the scope.
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

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    BUCKET_ROWS = 16, /* 1 % of rows differing then means that 15 % are fetched */
    MOST_BUCKETS = 1 << 18,
    FEW_ROWS = 2000, /* below, everything is fetched */
};

struct finding {
    const struct pj_table *table;
    int64_t nbuckets; /* a power of 2 */
    uint64_t seed;
    uint64_t *sums; /* of each bucket: the source's sum and the mirror's, exclusive or */
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

/* A timestamptz becomes a timestamp in the session's time zone, which is UTC: every instant another one. */
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
    pj_buf_printf(sql, "pg_catalog.%s(%s", function ? function : "hashtextextended", prefix);
    pj_quote_identifier(sql, column->name);
    if (!function)
        pj_buf_puts(sql, "::pg_catalog.text COLLATE \"C\"");
    else if (column->type == PJ_TIMESTAMPTZ)
        pj_buf_puts(sql, "::pg_catalog.timestamp");
}

/* The hash of several columns; `list` NULL: of all. */
static void put_hash(struct pj_buf *sql, const struct finding *finding, const char *prefix, const int *list, int count,
                     int purpose)
{
    pj_buf_puts(sql, "(");
    for (int i = 0; i < count; i++) {
        int column = list ? list[i] : i;
        pj_buf_puts(sql, i ? " # coalesce(" : "coalesce(");
        put_function(sql, &finding->table->columns[column], prefix);
        pj_buf_printf(sql, ", %" PRId64 "), %" PRId64 ")", seed_of(finding, column, purpose),
                      seed_of(finding, column, purpose + 1));
    }
    pj_buf_puts(sql, ")");
}

static void put_bucket(struct pj_buf *sql, const struct finding *finding, const char *prefix)
{
    pj_buf_puts(sql, "(");
    put_hash(sql, finding, prefix, finding->table->key, finding->table->nkey, 1);
    pj_buf_printf(sql, " & %" PRId64 ")", finding->nbuckets - 1);
}

/*
 * OFFSET 0 keeps the two apart: the planner, which knows nothing of how many buckets there are, would else sort whole
 * rows by their bucket. The hash's halves are summed, for a sum of int4 is a plain number and not a numeric in the
 * making.
 */
static char *sums_sql(const struct finding *finding, const char *from)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "COPY (SELECT bucket, pg_catalog.count(*), pg_catalog.sum((hash >> 32)::pg_catalog.int4), "
                      "pg_catalog.sum((hash << 32 >> 32)::pg_catalog.int4) FROM (SELECT ");
    put_bucket(&sql, finding, "");
    pj_buf_puts(&sql, " AS bucket, ");
    put_hash(&sql, finding, "", NULL, finding->table->ncolumns, 3);
    pj_buf_printf(&sql, " AS hash FROM %s OFFSET 0) AS hashes GROUP BY bucket) TO STDOUT", from);
    return pj_buf_take(&sql);
}

/* ---------------------------------------------------------------------------------------------------------- sums */

/* A line "bucket <tab> rows <tab> sum <tab> sum <newline>". */
static void take_sum(void *context, const char *row, size_t length)
{
    struct finding *finding = context;
    char *rest;
    int64_t bucket = strtoll(row, &rest, 10);
    if (bucket >= 0 && bucket < finding->nbuckets)
        finding->sums[bucket] ^= XXH3_64bits(rest, length - (size_t)(rest - row));
}

/* Both servers compute at the same time; the mirror's answer waits until the source's is read. */
static int sum_buckets(struct pj_session *write, struct pj_session *read, struct finding *finding,
                       struct pj_error *error)
{
    char *from = pj_verify_source_from(finding->table);
    char *source_sql = sums_sql(finding, from), *mirror_sql = sums_sql(finding, finding->table->mirror_sql);
    int code = pj_session_exec(write, source_sql, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, mirror_sql, error);
    if (code == PJ_OK)
        code = pj_difference_read(write, take_sum, finding, error);
    if (code == PJ_OK)
        code = pj_difference_read(read, take_sum, finding, error);
    pj_free(source_sql);
    pj_free(mirror_sql);
    pj_free(from);
    return code;
}

/* The mirror alone is counted: it is what can be spared from being fetched. */
static int choose_buckets(struct pj_session *read, struct finding *finding, int64_t *rows, struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT pg_catalog.count(*) FROM %s", finding->table->mirror_sql);
    PGresult *result;
    int code = pj_session_query_row(read, &result, sql, 0, NULL, error);
    pj_free(sql);
    if (code != PJ_OK)
        return code;
    *rows = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    finding->nbuckets = 1;
    while (finding->nbuckets < MOST_BUCKETS && finding->nbuckets * BUCKET_ROWS < *rows)
        finding->nbuckets *= 2;
    return PJ_OK;
}

/* --------------------------------------------------------------------------------------------------------- scope */

static void scope_all(struct pj_scope *scope)
{
    scope->source = pj_strdup("true");
    scope->mirror = pj_strdup("true");
}

static char *condition(const struct finding *finding, const char *prefix, const char *list)
{
    struct pj_buf sql = {0};
    put_bucket(&sql, finding, prefix);
    pj_buf_printf(&sql, " IN (SELECT pg_catalog.unnest('{%s}'::bigint[]))", list);
    return pj_buf_take(&sql);
}

static void scope_suspects(const struct finding *finding, struct pj_scope *scope, bool *agrees)
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
        scope->source = condition(finding, "", pj_buf_text(&list));
        scope->mirror = condition(finding, "m.", pj_buf_text(&list));
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
        scope_suspects(&finding, scope, agrees);
    pj_free(finding.sums);
    return code;
}
