/*
 * The shipped modules against a real PostgreSQL, without a stream: random changes are made to the mirrors' tables, the
 * pairs of old and new rows go through apply(), the merges and the recompute statements, and after each batch, which
 * may have come in parts, every target must equal its definition. The statements run under the settings of the applying
 * session.
 *
 * The seed is printed; SEED=n repeats it. The server is private, a child of the test, and ends with it.
 */
#include "base/mem.h"
#include "core/projection.h"
#include "core/source.h"

#include "reference/chat_changes.h"

/* ----------------------------------------------------------------------------------------------------- projection */

static struct pj_loaded_module loaded;
static struct pj_projection projection;

static void bind(const struct pj_module *module, const char *const (*options)[2])
{
    bool has_messages = false;
    for (const struct pj_source *source = module->sources; source->table; source++)
        has_messages = has_messages || strcmp(source->table, "messages") == 0;
    const struct pj_binding binding = {.tables = has_messages ? table_names : NULL,
                                       .columns = has_messages ? column_names : NULL,
                                       .options = options,
                                       .default_schema = "public"};
    cr_assert_eq(pj_projection_bind(&projection, module, &binding, tables, TABLES, &error), PJ_OK, "%s", error.message);
}

/* Modules are built here, so that the test is of the sources as they are. */
static void load(const char *name, const char *const (*options)[2])
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s.so", directory, name);
    shell("cc -std=c17 -shared -fPIC -Iengine/include -o %s projections/%s/*.c && chmod go-w %s", path, name, path);
    if (geteuid() == 0)
        shell("chown root %s", directory);
    cr_assert_eq(pj_module_load(&loaded, path, &error), PJ_OK, "%s", error.message);
    bind(loaded.module, options);
}

static void build(void)
{
    int64_t parked;
    if (pj_projection_create_target(session, &projection, &error) != PJ_OK ||
        pj_projection_create_mirror_indexes(session, &projection, &error) != PJ_OK ||
        pj_projection_fill_target(session, &projection, &parked, &error) != PJ_OK ||
        pj_projection_check_target(session, &projection, &error) != PJ_OK)
        cr_assert_fail("%s", error.message);
}

static void unload(void)
{
    pj_projection_free(&projection);
    pj_module_unload(&loaded);
}

/* ----------------------------------------------------------------------------------------------------------- batch */

static const Oid oids[] = {
    [PJ_ANY] = 25,   [PJ_BOOL] = 16,   [PJ_INT2] = 21,        [PJ_INT4] = 23,          [PJ_INT8] = 20,  [PJ_TEXT] = 25,
    [PJ_BYTEA] = 17, [PJ_DATE] = 1082, [PJ_TIMESTAMP] = 1114, [PJ_TIMESTAMPTZ] = 1184, [PJ_UUID] = 2950};

/* Column `column` of `count` rows as a binary array. */
static void put_array(struct pj_buf *array, enum pj_type type, const struct pj_value *rows, size_t count, int width,
                      int column)
{
    const int32_t head[] = {1, 1, (int32_t)oids[type], (int32_t)count, 1};
    for (size_t i = 0; i < 5; i++)
        pj_buf_put_int32(array, head[i]);
    for (size_t i = 0; i < count; i++) {
        struct pj_value value = rows[i * (size_t)width + (size_t)column];
        pj_buf_put_int32(array, value.length);
        if (value.length > 0)
            pj_buf_put(array, value.data, (size_t)value.length);
    }
}

static void run(const char *text, const enum pj_type *types, const struct pj_value *rows, size_t count, int width)
{
    struct pj_buf arrays[16] = {0};
    const char *values[16];
    int lengths[16], formats[16];
    for (int i = 0; i < width; i++) {
        put_array(&arrays[i], types[i], rows, count, width, i);
        values[i] = arrays[i].data;
        lengths[i] = (int)arrays[i].length;
        formats[i] = 1;
    }
    PGresult *result = PQexecParams(pj_session_conn(session), text, width, NULL, values, lengths, formats, 0);
    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s%s", PQresultErrorMessage(result), text);
    PQclear(result);
    for (int i = 0; i < width; i++)
        pj_buf_free(&arrays[i]);
}

static void run_merges(void)
{
    for (int i = 0; i < projection.nstreams; i++) {
        size_t count;
        const struct pj_value *rows = pj_deltas_rows(projection.deltas, i, &count);
        const struct pj_stream *stream = &projection.module->streams[i];
        enum pj_type types[16];
        int width = pj_stream_column_count(stream);
        for (int j = 0; j < width; j++)
            types[j] = stream->columns[j].type;
        if (count)
            run(projection.merge_sql[i], types, rows, count, width);
    }
}

static void run_recompute(void)
{
    size_t count;
    const struct pj_value *keys = pj_deltas_routing_keys(projection.deltas, &count);
    if (count)
        run(projection.recompute_routing_sql, projection.key_kinds, keys, count, 1);
    keys = pj_deltas_full_keys(projection.deltas, &count);
    if (count)
        run(projection.recompute_full_sql, projection.key_kinds, keys, count, projection.nkey);
    if (pj_deltas_all_dirty(projection.deltas))
        sql(projection.recompute_all_sql);
}

/* One side of a pair: the declared columns, from a result whose fields begin at `field`; NULL where there is no row. */
static const struct pj_value *side(const PGresult *result, int row, int field,
                                   const struct pj_projection_source *source, struct pj_value *values)
{
    if (PQgetisnull(result, row, field))
        return NULL;
    for (int i = 0; i < source->width; i++) {
        int at = field + source->columns[i];
        bool null = PQgetisnull(result, row, at);
        values[i].data = null ? NULL : (const unsigned char *)PQgetvalue(result, row, at);
        values[i].length = null ? PJ_NULL : PQgetlength(result, row, at);
    }
    return values;
}

/* Feeds the pairs of one table: its rows before (kept in a temporary table) and now. */
static void feed(int source_number)
{
    const struct pj_projection_source *source = &projection.sources[source_number];
    bool members = source->table->index == 3;
    struct pj_buf query = {0};
    pj_buf_printf(&query,
                  "SELECT o.*, n.* FROM pg_temp.before%d o FULL JOIN %s n ON o.%s = n.%s%s "
                  "WHERE o IS DISTINCT FROM n",
                  source->table->index, source->table->mirror_sql, members ? "user_id" : "id",
                  members ? "user_id" : "id", members ? " AND o.conversation_id = n.conversation_id" : "");
    PGresult *result = PQexecParams(pj_session_conn(session), query.data, 0, NULL, NULL, NULL, NULL, 1);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQresultErrorMessage(result));
    for (int row = 0; row < PQntuples(result); row++) {
        struct pj_value before[16], after[16];
        struct pj_change change = {.source = source_number};
        change.old_row = side(result, row, 0, source, before);
        change.new_row = side(result, row, source->table->ncolumns, source, after);
        cr_assert_eq(pj_deltas_apply(projection.deltas, &change, &error), PJ_OK, "%s", error.message);
    }
    PQclear(result);
    pj_buf_free(&query);
}

static void remember(void)
{
    for (int i = 0; i < TABLES; i++) {
        int code = pj_session_execf(session, &error,
                                    "DROP TABLE IF EXISTS pg_temp.before%d; "
                                    "CREATE TEMP TABLE before%d AS TABLE %s",
                                    i, i, tables[i].mirror_sql);
        cr_assert_eq(code, PJ_OK, "%s", error.message);
    }
}

static void assert_right(unsigned seed, int batch)
{
    struct pj_buf query = {0};
    pj_buf_printf(&query, "SELECT count(*) FROM ((TABLE %s EXCEPT ALL (%s)) UNION ALL ((%s) EXCEPT ALL TABLE %s)) x",
                  projection.target_sql, projection.definition_sql, projection.definition_sql, projection.target_sql);
    PGresult *result;
    int code = pj_session_query_row(session, &result, query.data, 0, NULL, &error);
    cr_assert_eq(code, PJ_OK, "%s", error.message);
    cr_assert_str_eq(PQgetvalue(result, 0, 0), "0", "%s: differs from its definition (SEED=%u, batch %d)",
                     projection.module->name, seed, batch);
    PQclear(result);
    pj_buf_free(&query);
}

static void run_part(void)
{
    remember();
    for (unsigned changes = 1 + pick(12); changes > 0; changes--)
        change_something();
    for (int i = 0; i < projection.nsources; i++)
        feed(i);
}

/* Some come in parts: their deltas are held for the next part, or merged between. */
static void run_batch(bool all)
{
    for (unsigned parts = pick(2) ? 0 : pick(4); parts > 0; parts--) {
        run_part();
        if (pick(4)) {
            pj_deltas_hold(projection.deltas);
        } else {
            pj_deltas_finish(projection.deltas);
            run_merges();
        }
        pj_deltas_next_part(projection.deltas);
    }
    run_part();
    if (all)
        pj_deltas_mark_all(projection.deltas);
    pj_deltas_finish(projection.deltas);
    run_merges();
    run_recompute();
    pj_deltas_reset(projection.deltas);
}

static unsigned begin(const char *module)
{
    unsigned seed = getenv("SEED") ? (unsigned)strtoul(getenv("SEED"), NULL, 10) : (unsigned)time(NULL);
    fprintf(stderr, "%s: SEED=%u\n", module, seed);
    state = seed;
    sql(schema);
    sql("SET search_path = public; SET client_min_messages = warning");
    for (int i = 0; i < 100; i++)
        change_something();
    sql("SET search_path = ''");
    return seed;
}

static void go_on(unsigned seed)
{
    build();
    sql("SET search_path = public; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; "
        "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off");
    for (int batch = 0; batch < 150; batch++) {
        run_batch(batch % 50 == 49);
        assert_right(seed, batch);
    }
    unload();
}

static void live_through_a_history(const char *module, const char *const (*options)[2])
{
    unsigned seed = begin(module);
    load(module, options);
    go_on(seed);
}

TestSuite(projection_tables, .init = start, .fini = stop, .timeout = 60);

Test(projection_tables, conversation_summary_equals_its_definition)
{
    live_through_a_history("conversation_summary", NULL);
}

Test(projection_tables, user_conversation_membership_equals_its_definition)
{
    live_through_a_history("user_conversation_membership", NULL);
}

Test(projection_tables, user_conversation_membership_may_count_all_for_a_null_last_read_at)
{
    live_through_a_history("user_conversation_membership", count_all);
}

/* -------------------------------------------------------------------------------------------- without an apply() */

static const struct pj_source plain_sources[] = {
    {"user_conversations", "conversation_id", NULL}, {"conversations", NULL, NULL}, {NULL, NULL, NULL}};
static const char *const plain_key[] = {"conversation_id", "title", NULL};
static const char plain_definition[] =
    "SELECT uc.conversation_id, coalesce(c.title, '') AS title, count(*) AS members, max(uc.last_read_at) AS "
    "last_read_at\n"
    "FROM {user_conversations} AS uc LEFT JOIN {conversations} AS c ON c.id = uc.conversation_id GROUP BY 1, 2 -- all";

Test(projection_tables, a_definition_without_keys_and_apply_is_right_too)
{
    static const struct pj_module plain = {.name = "plain",
                                           .version = 1,
                                           .sources = plain_sources,
                                           .target = "Plain",
                                           .key = plain_key,
                                           .definition = plain_definition};
    unsigned seed = begin("plain");
    bind(&plain, NULL);
    go_on(seed);
}

/* ---------------------------------------------------------------------- keys restricted by their first columns only */

static const struct pj_column partly_columns[] = {{"conversation_id", PJ_UUID}, {"user_id", PJ_UUID}, {NULL, PJ_ANY}};
static const struct pj_source partly_sources[] = {{"user_conversations", "conversation_id", partly_columns},
                                                  {NULL, NULL, NULL}};
static const char *const partly_key[] = {"conversation_id", "user_id", NULL};
static const char partly_definition[] =
    "SELECT uc.conversation_id, uc.user_id, uc.last_read_at FROM {user_conversations} AS uc\n"
    "WHERE {keys(uc.conversation_id)}";

static void mark_row(const struct pj_host *host, struct pj_call *call, const struct pj_value *row)
{
    if (row)
        host->dirty(call, row, 2);
}

static int mark_rows(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    mark_row(host, call, change->old_row);
    mark_row(host, call, change->new_row);
    return 0;
}

Test(projection_tables, single_rows_of_a_definition_restricted_by_the_first_column_only)
{
    static const struct pj_module partly = {.name = "partly",
                                            .version = 1,
                                            .sources = partly_sources,
                                            .target = "Partly",
                                            .key = partly_key,
                                            .definition = partly_definition,
                                            .apply = mark_rows};
    unsigned seed = begin("partly");
    bind(&partly, NULL);
    go_on(seed);
}

/* ------------------------------------------------------------------------------------------------- rebuild needed */

Test(projection_tables, a_target_of_another_version_or_definition_needs_a_rebuild)
{
    begin("user_conversation_membership");
    load("user_conversation_membership", NULL);
    build();
    sql("UPDATE pgprojector.projection SET module_version = 7");
    cr_expect_eq(pj_projection_check_target(session, &projection, &error), PJ_ECONFIG);
    cr_expect_not_null(strstr(error.message, "built by version 7 of the module, this is version 1"), "%s",
                       error.message);
    sql("UPDATE pgprojector.projection SET module_version = 1");
    pj_projection_free(&projection);
    bind(loaded.module, count_all);
    cr_expect_eq(pj_projection_check_target(session, &projection, &error), PJ_ECONFIG);
    cr_expect_not_null(strstr(error.message, "another definition"), "%s", error.message);
    sql("UPDATE pgprojector.projection SET state = 'live'");
    cr_expect_eq(pj_projection_create_target(session, &projection, &error), PJ_ECONFIG);
    cr_expect_not_null(strstr(error.message, "already a table"), "%s", error.message);
    unload();
}
