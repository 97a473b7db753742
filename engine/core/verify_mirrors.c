/*
 * Mirrors against their sources, under two snapshots that show one commit. For each table:
 *
 *   1. count both sides; from that the number of buckets, about a thousand rows each
 *   2. a pass over both sides at the same time: of each bucket the number of rows and the sum of their digests
 *   3. where buckets disagree, a second pass: the rows of these buckets, key by key (verify_merge.c)
 *
 * A row's bucket comes from the digest of its key's text, its checksum from the digest of its columns' text. Digests
 * are md5, which every server of every version computes alike (a server's own hash functions are not that), of the
 * record's text output under the settings that every session pins. A sum does not mind the order rows come in; 60 bits
 * of each digest go into it.
 */
#include "base/mem.h"
#include "core/verify_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKET_ROWS = 1000, MOST_BUCKETS = 65536 };

struct bucket {
    int64_t rows;
    char sum[32]; /* as the server writes it; "" for no rows */
};

struct side {
    struct pj_session *session;
    char *from;       /* what stands behind FROM */
    char *key_digest; /* SQL expressions over it */
    char *row_digest;
    char *key_fields; /* as JSON, and each column as text */
    int64_t rows;
    struct bucket *buckets;
};

struct comparison {
    struct side source, mirror;
    int nbuckets;
    struct pj_buf suspects; /* the buckets that disagree: "1,5,7" */
    int nsuspects;
    char *sampled;       /* the condition on the rows drawn; NULL: all are compared */
    int64_t rows, total; /* compared, and about how many there are; total 0: all were compared */
};

/* --------------------------------------------------------------------------------------------------- both at once */

struct job {
    struct pj_session *session;
    const char *sql;
    PGresult *result;
    int code;
    struct pj_error error;
};

static void *run_job(void *context)
{
    struct job *job = context;
    job->code = pj_session_query(job->session, &job->result, job->sql, 0, NULL, &job->error);
    return NULL;
}

/* The same question to both sides, at the same time: one waits in a thread of its own, where one can be had. */
static int ask_both(const struct comparison *comparison, char *source_sql, char *mirror_sql, PGresult *results[2],
                    struct pj_error *error)
{
    struct job jobs[2] = {{.session = comparison->source.session, .sql = source_sql},
                          {.session = comparison->mirror.session, .sql = mirror_sql}};
    pthread_t thread;
    bool threaded = pthread_create(&thread, NULL, run_job, &jobs[0]) == 0;
    if (!threaded)
        run_job(&jobs[0]);
    run_job(&jobs[1]);
    if (threaded)
        pthread_join(thread, NULL);
    pj_free(source_sql);
    pj_free(mirror_sql);
    int code = jobs[0].code != PJ_OK ? jobs[0].code : jobs[1].code;
    results[0] = jobs[0].result;
    results[1] = jobs[1].result;
    if (code == PJ_OK)
        return PJ_OK;
    *error = jobs[0].code != PJ_OK ? jobs[0].error : jobs[1].error;
    PQclear(results[0]);
    PQclear(results[1]);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ expressions */

/* The digest of a text as 32 hexadecimal digits, the same whatever the server's encoding. */
static char *digest(const struct pj_session *session, const char *text)
{
    const char *encoding = PQparameterStatus(pj_session_conn((struct pj_session *)session), "server_encoding");
    if (encoding && strcmp(encoding, "UTF8") == 0)
        return pj_sprintf("pg_catalog.md5(%s)", text);
    return pj_sprintf("pg_catalog.md5(pg_catalog.convert_to(%s, 'UTF8'))", text);
}

static void side_init(struct side *side, struct pj_session *session, char *from, const struct pj_table *table)
{
    side->session = session;
    side->from = from;
    const char **names = pj_alloc(sizeof *names * (size_t)(table->ncolumns + table->nkey + 1));
    const char **key = names + table->ncolumns;
    for (int i = 0; i < table->ncolumns; i++)
        names[i] = table->columns[i].name;
    for (int i = 0; i < table->nkey; i++)
        key[i] = table->columns[table->key[i]].name;
    struct pj_buf text = {0};
    pj_verify_row_text(&text, "", key, table->nkey);
    side->key_digest = digest(session, pj_buf_text(&text));
    pj_buf_clear(&text);
    pj_verify_row_text(&text, "", names, table->ncolumns);
    side->row_digest = digest(session, pj_buf_text(&text));
    pj_buf_clear(&text);
    pj_verify_key_json(&text, "", key, table->nkey);
    pj_verify_key_texts(&text, "", key, table->nkey);
    side->key_fields = pj_buf_take(&text);
    pj_free(names);
}

static void side_free(struct side *side)
{
    pj_free(side->from);
    pj_free(side->key_digest);
    pj_free(side->row_digest);
    pj_free(side->key_fields);
    pj_free(side->buckets);
}

char *pj_verify_source_from(const struct pj_table *table)
{
    struct pj_buf from = {0};
    pj_buf_puts(&from, table->partitioned ? "" : "ONLY ");
    pj_quote_identifier(&from, table->schema);
    pj_buf_puts(&from, ".");
    pj_quote_identifier(&from, table->name);
    return pj_buf_take(&from);
}

static char *bucket_sql(const struct side *side, int nbuckets)
{
    return pj_sprintf("(('x' || pg_catalog.left(%s, 8))::bit(32)::bigint %% %d)", side->key_digest, nbuckets);
}

/* ------------------------------------------------------------------------------------------------------------ steps */

static int count_rows(struct comparison *comparison, struct pj_error *error)
{
    PGresult *results[2];
    static const char sql[] = "SELECT pg_catalog.count(*) FROM %s";
    int code = ask_both(comparison, pj_sprintf(sql, comparison->source.from), pj_sprintf(sql, comparison->mirror.from),
                        results, error);
    if (code != PJ_OK)
        return code;
    comparison->source.rows = strtoll(PQgetvalue(results[0], 0, 0), NULL, 10);
    comparison->mirror.rows = strtoll(PQgetvalue(results[1], 0, 0), NULL, 10);
    PQclear(results[0]);
    PQclear(results[1]);
    return PJ_OK;
}

static void choose_buckets(struct comparison *comparison)
{
    int64_t source = comparison->source.rows, mirror = comparison->mirror.rows;
    int64_t wanted = (source > mirror ? source : mirror) / BUCKET_ROWS + 1;
    comparison->nbuckets = wanted < MOST_BUCKETS ? (int)wanted : MOST_BUCKETS;
}

static char *sums_sql(const struct side *side, int nbuckets)
{
    char *bucket = bucket_sql(side, nbuckets);
    char *sql = pj_sprintf("SELECT bucket, pg_catalog.count(*), pg_catalog.sum(checksum) FROM (SELECT %s AS bucket, "
                           "('x' || pg_catalog.left(%s, 15))::bit(60)::bigint AS checksum FROM %s) AS digests "
                           "GROUP BY bucket",
                           bucket, side->row_digest, side->from);
    pj_free(bucket);
    return sql;
}

static void enter_sums(struct side *side, const PGresult *result, int nbuckets)
{
    side->buckets = pj_alloc(sizeof *side->buckets * (size_t)nbuckets);
    for (int i = 0; i < PQntuples(result); i++) {
        struct bucket *bucket = &side->buckets[strtol(PQgetvalue(result, i, 0), NULL, 10)];
        bucket->rows = strtoll(PQgetvalue(result, i, 1), NULL, 10);
        snprintf(bucket->sum, sizeof bucket->sum, "%s", PQgetvalue(result, i, 2));
    }
}

static int sum_buckets(struct comparison *comparison, struct pj_error *error)
{
    PGresult *results[2];
    int n = comparison->nbuckets;
    int code = ask_both(comparison, sums_sql(&comparison->source, n), sums_sql(&comparison->mirror, n), results, error);
    if (code != PJ_OK)
        return code;
    enter_sums(&comparison->source, results[0], n);
    enter_sums(&comparison->mirror, results[1], n);
    PQclear(results[0]);
    PQclear(results[1]);
    return PJ_OK;
}

static void find_suspects(struct comparison *comparison)
{
    for (int i = 0; i < comparison->nbuckets; i++) {
        const struct bucket *source = &comparison->source.buckets[i], *mirror = &comparison->mirror.buckets[i];
        if (source->rows == mirror->rows && strcmp(source->sum, mirror->sum) == 0)
            continue;
        pj_buf_printf(&comparison->suspects, "%s%d", comparison->nsuspects++ ? "," : "", i);
    }
}

/* The rows drawn, or those of the suspect buckets; all, where most are suspect. */
static char *condition_of(const struct comparison *comparison, const struct side *side)
{
    if (comparison->sampled)
        return pj_strdup(comparison->sampled);
    if (comparison->nsuspects > comparison->nbuckets / 2)
        return pj_strdup("true");
    char *bucket = bucket_sql(side, comparison->nbuckets);
    char *condition = pj_sprintf("%s = ANY ('{%s}'::bigint[])", bucket, pj_buf_text(&comparison->suspects));
    pj_free(bucket);
    return condition;
}

static char *rows_sql(const struct comparison *comparison, const struct side *side)
{
    char *condition = condition_of(comparison, side);
    char *sql = pj_sprintf("SELECT %s, %s, %s FROM %s WHERE %s ORDER BY %s COLLATE \"C\"", side->key_digest,
                           side->row_digest, side->key_fields, side->from, condition, side->key_digest);
    pj_free(condition);
    return sql;
}

static int merge_rows(const struct comparison *comparison, struct pj_verify_tally *tally, struct pj_error *error)
{
    char *source_sql = rows_sql(comparison, &comparison->source);
    char *mirror_sql = rows_sql(comparison, &comparison->mirror);
    int code =
        pj_verify_merge(comparison->source.session, source_sql, comparison->mirror.session, mirror_sql, tally, error);
    pj_free(source_sql);
    pj_free(mirror_sql);
    return code;
}

static int compare_sample(struct comparison *comparison, struct pj_verify_tally *tally, struct pj_error *error)
{
    PGresult *result;
    char *sql = pj_sprintf("SELECT pg_catalog.count(*) FROM %s WHERE %s", comparison->source.from, comparison->sampled);
    int code = pj_session_query_row(comparison->source.session, &result, sql, 0, NULL, error);
    pj_free(sql);
    if (code == PJ_OK)
        comparison->rows = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return code == PJ_OK ? merge_rows(comparison, tally, error) : code;
}

static int compare(struct comparison *comparison, struct pj_verify_tally *tally, struct pj_error *error)
{
    int code = count_rows(comparison, error);
    if (code != PJ_OK)
        return code;
    comparison->rows = comparison->source.rows;
    choose_buckets(comparison);
    code = sum_buckets(comparison, error);
    if (code != PJ_OK)
        return code;
    find_suspects(comparison);
    return comparison->nsuspects ? merge_rows(comparison, tally, error) : PJ_OK;
}

static int verify_table(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                        const struct pj_verify_options *options, int64_t *differences, struct pj_error *error)
{
    struct comparison comparison = {0};
    side_init(&comparison.source, write, pj_verify_source_from(table), table);
    side_init(&comparison.mirror, read, pj_strdup(table->mirror_sql), table);
    char *name = pj_sprintf("%s.%s", table->schema, table->name);
    struct pj_verify_tally tally = {.options = options, .kind = "mirror", .name = name, .nvalues = table->nkey};
    int code = PJ_OK;
    if (options->sample)
        code = pj_sample_mirror(write, read, table, options->sample, &comparison.sampled, &comparison.total, error);
    if (code == PJ_OK)
        code = comparison.sampled ? compare_sample(&comparison, &tally, error) : compare(&comparison, &tally, error);
    if (code == PJ_OK)
        pj_verify_tally_close(&tally, comparison.rows, comparison.sampled ? comparison.total : 0);
    else
        pj_error_wrap(error, "compare mirror %s", name);
    *differences += tally.differences;
    side_free(&comparison.source);
    side_free(&comparison.mirror);
    pj_buf_free(&comparison.suspects);
    pj_free(comparison.sampled);
    pj_free(name);
    return code;
}

int pj_verify_mirrors(struct pj_session *write, struct pj_session *read, const struct pj_table *tables, int count,
                      const struct pj_verify_options *options, int64_t *differences, struct pj_error *error)
{
    pj_error_clear(error);
    *differences = 0;
    for (int i = 0; i < count; i++) {
        int code = verify_table(write, read, &tables[i], options, differences, error);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}
