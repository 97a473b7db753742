/* Fixtures against a module of this file's own: what runs, what is compared, what is refused. */
#include "host/fixture.h"

#include <criterion/criterion.h>

/* ---------------------------------------------------------------------------------------------------------- module */

enum { OWNER, AMOUNT, NOTE };

static const struct pj_column thing_columns[] = {
    [OWNER] = {"owner_id", PJ_UUID}, [AMOUNT] = {"amount", PJ_INT8}, [NOTE] = {"note", PJ_ANY}, {NULL, PJ_ANY}};
static const struct pj_column owner_columns[] = {{"id", PJ_UUID}, {"seen_at", PJ_TIMESTAMPTZ}, {NULL, PJ_ANY}};
static const struct pj_source sources[] = {
    {"things", "owner_id", thing_columns}, {"owners", "id", owner_columns}, {NULL, NULL, NULL}};
static const struct pj_stream_column sums_columns[] = {{"owner_id", PJ_UUID, PJ_KEY},
                                                       {"n", PJ_INT8, PJ_SUM},
                                                       {"seen_at", PJ_TIMESTAMPTZ, PJ_LAST},
                                                       {NULL, PJ_ANY, PJ_KEY}};
static const struct pj_stream streams[] = {{"sums", sums_columns, "x"}, {NULL, NULL, NULL}};
static const struct pj_option options[] = {{"factor", "1", "x", NULL}, {NULL, NULL, NULL, NULL}};
static const char *const key[] = {"owner_id", "note", NULL};
static int64_t remembered;

static void emit(const struct pj_host *host, struct pj_call *call, const struct pj_value *row, int64_t factor)
{
    unsigned char space[8];
    if (!row)
        return;
    struct pj_value out[] = {row[OWNER], pj_make_int64(factor * pj_int64(row[AMOUNT]), space), pj_make_null()};
    host->emit(call, 0, out);
}

static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    const struct pj_value *row = change->new_row ? change->new_row : change->old_row;
    if (change->source == 1) { /* order shows in PJ_LAST */
        unsigned char space[8];
        struct pj_value out[] = {row[0], pj_make_int64(0, space), row[1]};
        host->emit(call, 0, out);
        return 0;
    }
    if (pj_is_null(row[AMOUNT])) {
        host->fail(call, "a thing without an amount");
        return 1;
    }
    int64_t factor = host->option(call, 0)[0] - '0';
    if (factor == 9) /* a bad habit, on request */
        factor = remembered++;
    if (!pj_is_null(row[NOTE])) {
        struct pj_value dirty[] = {row[OWNER], row[NOTE]};
        host->dirty(call, dirty, row[NOTE].length == 3 ? 1 : 2);
    }
    emit(host, call, change->old_row, -factor);
    emit(host, call, change->new_row, factor);
    return 0;
}

static const struct pj_module module = {.name = "sums",
                                        .sources = sources,
                                        .target = "sums",
                                        .key = key,
                                        .streams = streams,
                                        .options = options,
                                        .apply = apply};

static const struct pj_source plain_sources[] = {
    {"things", "owner_id", NULL}, {"owners", NULL, NULL}, {NULL, NULL, NULL}};
static const char *const plain_key[] = {"owner_id", NULL};
static const struct pj_module plain = {.name = "plain", .sources = plain_sources, .target = "plain", .key = plain_key};

/* --------------------------------------------------------------------------------------------------------- helpers */

#define A "\"00000000-0000-0000-0000-00000000000a\""
#define B "\"00000000-0000-0000-0000-00000000000b\""

static struct pj_error error;

static json_t *parse(const char *text)
{
    json_error_t where;
    json_t *json = json_loads(text, 0, &where);
    cr_assert_not_null(json, "%s: %s", text, where.text);
    return json;
}

/* Runs and compares: "" where all agrees, else the report, or the error's message. */
static const char *outcome_of(const struct pj_module *which, const char *text)
{
    static char outcome[4096];
    struct pj_buf report = {0};
    json_t *test = parse(text), *actual = NULL;
    int code = pj_fixture_run(which, test, &actual, &error);
    if (code == PJ_OK)
        code = pj_fixture_compare(which, test, actual, &report, &error);
    snprintf(outcome, sizeof outcome, "%s", code == PJ_OK ? pj_buf_text(&report) : error.message);
    pj_buf_free(&report);
    json_decref(actual);
    json_decref(test);
    return outcome;
}

static void agrees(const struct pj_module *which, const char *text)
{
    const char *outcome = outcome_of(which, text);
    cr_expect_str_empty(outcome, "%s", outcome);
}

static void says(const struct pj_module *which, const char *text, const char *words)
{
    const char *outcome = outcome_of(which, text);
    cr_expect_not_null(strstr(outcome, words), "\"%s\" is not in: %s", words, outcome);
}

/* ------------------------------------------------------------------------------------------------------- comparing */

Test(fixture, deltas_are_combined_and_compared)
{
    agrees(&module, "{\"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": " A ", \"amount\": 5}},"
                    "{\"table\": \"things\", \"old\": {\"owner_id\": " A ", \"amount\": \"2\"}, \"new\": null}],"
                    "\"expect\": {\"streams\": {\"sums\": [{\"owner_id\": " A ", \"n\": 3}]}}}");
}

Test(fixture, a_difference_is_shown_by_key_and_column)
{
    const char *const text = "{\"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": " A ", \"amount\": 5}}],"
                             "\"expect\": {\"streams\": {\"sums\": [{\"owner_id\": " A ", \"n\": 4}]}}}";
    says(&module, text, "~ stream sums: owner_id=" A ": n is 5, expected 4");
}

Test(fixture, rows_that_are_missing_or_too_many_are_shown)
{
    const char *const text = "{\"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": " A ", \"amount\": 5}}],"
                             "\"expect\": {\"streams\": {\"sums\": [{\"owner_id\": " B ", \"n\": 4}]}}}";
    says(&module, text, "- stream sums: owner_id=" B " n=4 was expected and did not come");
    says(&module, text, "+ stream sums: owner_id=" A " n=5 came and was not expected");
}

Test(fixture, times_are_compared_as_times)
{
    agrees(&module,
           "{\"changes\": [{\"table\": \"owners\", \"new\": {\"id\": " A ", \"seen_at\": \"2026-01-01 10:00:00+00\"}}],"
           "\"expect\": {\"streams\": {\"sums\": [{\"owner_id\": " A ", \"n\": 0,"
           " \"seen_at\": \"2026-01-01 12:00:00+02\"}]}}}");
}

Test(fixture, dirty_keys_and_rows)
{
    agrees(&module,
           "{\"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": " A ", \"amount\": 1, \"note\": \"all\"}},"
           "{\"table\": \"things\", \"new\": {\"owner_id\": " B ", \"amount\": 1, \"note\": \"one!\"}}],"
           "\"expect\": {\"dirty_keys\": [{\"owner_id\": " A "}],"
           " \"dirty_rows\": [{\"owner_id\": " B ", \"note\": \"one!\"}],"
           " \"streams\": {\"sums\": [{\"owner_id\": " B ", \"n\": 1}]}}}");
    says(&module, "{\"changes\": [], \"expect\": {\"dirty_all\": true}}", "dirty_all is false, expected true");
}

Test(fixture, options_may_be_given)
{
    agrees(&module,
           "{\"options\": {\"factor\": \"3\"}, \"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": " A
           ", \"amount\": 5}}], \"expect\": {\"streams\": {\"sums\": [{\"owner_id\": " A ", \"n\": 15}]}}}");
}

Test(fixture, without_apply_the_keys_are_dirty)
{
    agrees(&plain,
           "{\"changes\": [{\"table\": \"things\", \"old\": {\"owner_id\": \"x\"}, \"new\": {\"owner_id\": \"y\"}}],"
           "\"expect\": {\"dirty_keys\": [{\"owner_id\": \"x\"}, {\"owner_id\": \"y\"}]}}");
    agrees(&plain, "{\"changes\": [{\"table\": \"owners\", \"new\": {}}], \"expect\": {\"dirty_all\": true}}");
}

Test(fixture, a_refusal_is_a_result)
{
    const char *const text = "{\"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": " A "}}], \"expect\": %s}";
    char filled[512];
    snprintf(filled, sizeof filled, text, "{\"error\": \"without an amount\"}");
    agrees(&module, filled);
    snprintf(filled, sizeof filled, text, "{\"error\": \"something else\"}");
    says(&module, filled, "refused with other words");
    snprintf(filled, sizeof filled, text, "{}");
    says(&module, filled, "apply() refused: projection sums");
    says(&module, "{\"changes\": [], \"expect\": {\"error\": \"x\"}}", "was expected to refuse");
}

Test(fixture, what_came_out_can_be_pasted_as_expected)
{
    json_t *test = parse("{\"changes\": [{\"table\": \"things\", \"old\": {\"owner_id\": " A ", \"amount\": 7},"
                         " \"new\": {\"owner_id\": " B ", \"amount\": 9223372036854775807}}]}"),
           *actual = NULL;
    struct pj_buf report = {0};
    cr_assert_eq(pj_fixture_run(&module, test, &actual, &error), PJ_OK, "%s", error.message);
    json_object_set(test, "expect", actual);
    cr_expect_eq(pj_fixture_compare(&module, test, actual, &report, &error), PJ_OK, "%s", error.message);
    cr_expect_eq(report.length, 0, "%s", report.data);
    json_decref(actual);
    json_decref(test);
    pj_buf_free(&report);
}

/* -------------------------------------------------------------------------------------------------------- refusing */

Test(fixture, an_apply_that_depends_on_order_is_found)
{
    says(&module,
         "{\"changes\": [{\"table\": \"owners\", \"new\": {\"id\": " A ", \"seen_at\": \"2026-01-01 10:00:00+00\"}},"
         "{\"table\": \"owners\", \"new\": {\"id\": " A ", \"seen_at\": \"2026-01-01 11:00:00+00\"}}]}",
         "opposite order");
}

Test(fixture, an_apply_that_remembers_is_found)
{
    says(&module,
         "{\"options\": {\"factor\": \"9\"}, \"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": " A
         ", \"amount\": 5}}]}",
         "the same changes again");
}

Test(fixture, what_is_ill_formed_is_named)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"{}", "\"changes\" is not a list"},
        {"{\"change\": []}", "unknown member \"change\""},
        {"{\"changes\": [7]}", "change 1 is not an object"},
        {"{\"changes\": [{\"new\": {}}]}", "change 1 has no \"table\""},
        {"{\"changes\": [{\"table\": \"thing\", \"new\": {}}]}", "the module reads no table \"thing\""},
        {"{\"changes\": [{\"table\": \"things\"}]}", "neither an old nor a new row"},
        {"{\"changes\": [{\"table\": \"things\", \"new\": {\"owner\": 1}}]}",
         "change 1, new has an unknown member \"owner\""},
        {"{\"changes\": [{\"table\": \"things\", \"new\": {\"owner_id\": \"x\"}}]}",
         "change 1, new: owner_id: \"x\" is no uuid"},
        {"{\"changes\": [{\"table\": \"things\", \"new\": {\"amount\": 1.5}}]}", "amount: is a number with a fraction"},
        {"{\"changes\": [{\"table\": \"things\", \"new\": {\"note\": [1]}}]}", "note: is a list or object"},
        {"{\"options\": {\"fctor\": \"1\"}, \"changes\": []}", "options has an unknown member \"fctor\""},
        {"{\"options\": {\"factor\": 1}, \"changes\": []}", "factor must be a string"},
        {"{\"types\": {\"things.note\": \"uid\"}, \"changes\": []}", "\"things.note\" is of an unknown type"},
        {"{\"types\": 5, \"changes\": []}", "types is not an object"},
        {"{\"types\": {\"things.nte\": \"text\"}, \"changes\": []}", "reads no column \"things.nte\""},
        {"{\"types\": {\"target.amount\": \"text\"}, \"changes\": []}", "reads no column \"target.amount\""},
        {"{\"types\": {\"thing.note\": \"text\"}, \"changes\": []}", "reads no column \"thing.note\""},
        {"{\"types\": {\"target.note\": \"text\", \"owners.note\": \"text\"}, \"changes\": []}", "no \"expect\""},
        {"{\"changes\": [], \"expect\": {\"error\": 5}}", "error is not a string"},
        {"{\"changes\": [], \"expect\": {\"dirty_all\": \"yes\"}}", "dirty_all is neither true nor false"},
        {"{\"changes\": []}", "has no \"expect\""},
        {"{\"changes\": [], \"expect\": {\"stream\": {}}}", "expect has an unknown member \"stream\""},
        {"{\"changes\": [], \"expect\": {\"streams\": {\"sum\": []}}}", "unknown member \"sum\""},
        {"{\"changes\": [], \"expect\": {\"streams\": {\"sums\": {}}}}", "stream sums is not a list"},
        {"{\"changes\": [], \"expect\": {\"dirty_keys\": [{\"owner\": 1}]}}",
         "dirty_keys, row 1 has an unknown member"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        says(&module, cases[i].text, cases[i].words);
}

Test(fixture, a_file_that_cannot_be_read_is_named)
{
    json_t *cases;
    char path[] = "/tmp/pjf-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    cr_expect_eq(pj_fixture_read("/no/such/file.json", &cases, &error), PJ_ECONFIG);
    cr_expect_not_null(strstr(error.message, "/no/such/file.json"), "%s", error.message);
    fputs("{\"changes\": [\n  oops]}", file);
    fflush(file);
    cr_expect_eq(pj_fixture_read(path, &cases, &error), PJ_ECONFIG);
    cr_expect_not_null(strstr(error.message, "line 2"), "%s", error.message);
    rewind(file);
    fputs("[1, 2]                    ", file);
    fflush(file);
    cr_expect_eq(pj_fixture_read(path, &cases, &error), PJ_ECONFIG);
    cr_expect_not_null(strstr(error.message, "neither a case nor a list of cases"), "%s", error.message);
    fclose(file);
    remove(path);
}
