/* The configuration: precedence, and what an INI file may say. */
#include "app/config.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <string.h>

static const char urls[] = "[pgprojector]\nwrite_database_url = host=w password=canary\nread_database_url = host=r\n";

static int read_text(struct pj_config *config, const char *text, struct pj_error *error)
{
    pj_config_init(config);
    return pj_config_read_text(config, text, "f.ini", error);
}

/* The file must be refused, with `message` and `hint` in the error. */
static void expect_refused(const char *text, const char *message, const char *hint)
{
    struct pj_config config;
    struct pj_error error;
    cr_expect(read_text(&config, text, &error) == PJ_ECONFIG, "accepted: %s", text);
    cr_expect(strstr(error.message, message), "%s\nis not in: %s", message, error.message);
    cr_expect(strstr(error.hint, hint), "%s\nis not in: %s", hint, error.hint);
    pj_config_free(&config);
}

static char *environment(const char *name)
{
    return strcmp(name, "PGPROJECTOR_JOBS") == 0 ? "3" : strcmp(name, "PGPROJECTOR_SLOT") == 0 ? "" : NULL;
}

Test(config, flag_over_environment_over_file_over_default)
{
    struct pj_config config;
    struct pj_error error;
    cr_assert(read_text(&config, "[pgprojector]\njobs = 4\nslot = mine\n", &error) == PJ_OK);
    cr_assert_str_eq(pj_config_get(&config, PJ_SET_JOBS), "4");
    pj_config_read_environment(&config, environment);
    cr_assert_str_eq(pj_config_get(&config, PJ_SET_JOBS), "3");
    cr_assert_str_eq(config.settings[PJ_SET_JOBS].origin, "environment PGPROJECTOR_JOBS");
    cr_assert_str_eq(pj_config_get(&config, PJ_SET_SLOT), "mine", "an empty variable says nothing");
    pj_config_set(&config, PJ_SET_JOBS, PJ_RANK_FLAG, "5", "--jobs");
    pj_config_set(&config, PJ_SET_JOBS, PJ_RANK_FILE, "6", "f.ini:9");
    cr_assert_str_eq(pj_config_get(&config, PJ_SET_JOBS), "5");
    cr_assert_str_eq(pj_config_get(&config, PJ_SET_SCHEMA), "public");
    pj_config_free(&config);
}

Test(config, a_whole_file)
{
    struct pj_config config;
    struct pj_error error;
    int code = read_text(&config,
                         "# comment\n[pgprojector]\nwrite_database_url = postgresql://u@h/d?a=b#c\n"
                         "read_database_url=host=r\nmodules = a,\n  b\nbatch_bytes = 1MB\nslot_wait = 5min\n"
                         "[mirrors]\ntables = users,\n    \"A b\".c\n[module conversation_summary]\n"
                         "table.messages = chat.msg\ncolumn.messages.content = body\nkeep = 7\n",
                         &error);
    cr_assert(code == PJ_OK, "%s", error.message);
    cr_assert(pj_config_resolve(&config, &error) == PJ_OK, "%s", error.message);
    cr_assert_str_eq(pj_config_get(&config, PJ_SET_WRITE_URL), "postgresql://u@h/d?a=b#c");
    cr_assert_str_eq(pj_config_get(&config, PJ_SET_MODULES), "a, b");
    cr_assert_str_eq(config.mirrors.value, "users, \"A b\".c");
    cr_assert(config.batch_bytes == 1 << 20 && config.slot_wait_ms == 300000 && config.jobs == 2);
    cr_assert(config.nmodules == 1 && config.modules[0].nentries == 3);
    cr_assert_str_eq(config.modules[0].name, "conversation_summary");
    cr_assert_str_eq(config.modules[0].entries[1].key, "column.messages.content");
    cr_assert_str_eq(config.modules[0].entries[1].origin, "f.ini:14");
    pj_config_free(&config);
}

Test(config, long_lines_arrive_whole)
{
    char text[6000] = "[pgprojector]\nslot = a\nwrite_database_url = ";
    memset(text + strlen(text), 'x', 5000);
    struct pj_config config;
    struct pj_error error;
    cr_assert(read_text(&config, text, &error) == PJ_OK);
    cr_assert(strlen(pj_config_get(&config, PJ_SET_WRITE_URL)) == 5000);
    pj_config_free(&config);
}

Test(config, faults_name_the_line_and_the_nearest_key)
{
    expect_refused("[pgprojector]\n\nslott = x\n", "f.ini:3: unknown key in [pgprojector]: \"slott\"", "\"slot\"");
    expect_refused("[mirrors]\ntable = x\n", "f.ini:2: unknown key in [mirrors]", "\"tables\"");
    expect_refused("[mirrors]\nslot_wiat = 1s\n", "f.ini:2: unknown key in [mirrors]",
                   "\"slot_wait\" of [pgprojector]");
    expect_refused("[pgprojector]\ntables = x\n", "f.ini:2: unknown key", "\"tables\" of [mirrors]");
    expect_refused("[miror]\ntables = x\n", "f.ini:2: unknown section \"miror\"", "\"mirrors\"");
    expect_refused("[something]\nx = y\n", "unknown section", "[module NAME]");
    expect_refused("slot = x\n", "f.ini:1: no section above", "");
    expect_refused("[pgprojector]\nslot = x\nslot = y\n", "f.ini:3: a second value", "");
    expect_refused("[pgprojector]\nslot = x\n  schema = y\n", "f.ini:3: an indented line", "");
    expect_refused("[pgprojector]\nslot = x\nnonsense\n", "f.ini:3: neither [section] nor key = value", "");
    expect_refused("[module a]\nx = 1\nx = 2\n", "f.ini:3: a second value", "");
    expect_refused("[module a_name_that_is_longer_than_any_name_of_a_module_may_be]\nx = 1\n", "too long", "");
}

static void expect_unresolvable(enum pj_setting_id id, const char *value, const char *message)
{
    struct pj_config config;
    struct pj_error error;
    cr_assert(read_text(&config, urls, &error) == PJ_OK);
    pj_config_set(&config, id, PJ_RANK_FLAG, value, "--flag");
    cr_expect(pj_config_resolve(&config, &error) == PJ_ECONFIG, "%s", value);
    cr_expect(strstr(error.message, message), "%s\nis not in: %s", message, error.message);
    cr_expect_not(strstr(error.message, "canary"));
    pj_config_free(&config);
}

Test(config, wrong_values_name_their_origin)
{
    expect_unresolvable(PJ_SET_JOBS, "99", "--flag: jobs = \"99\" is not a number from 1 to 16");
    expect_unresolvable(PJ_SET_SLOT, "My-Slot", "slot name");
    expect_unresolvable(PJ_SET_SLOT_WAIT, "60", "such as 500ms");
    expect_unresolvable(PJ_SET_SLOT_WAIT, "0", "such as 500ms");
    expect_unresolvable(PJ_SET_BATCH_BYTES, "1kB", "from 64kB");
    expect_unresolvable(PJ_SET_GATHER, "1h", "at most 10s");
    expect_unresolvable(PJ_SET_ON_ERROR, "stop", "not park or halt");
    expect_unresolvable(PJ_SET_APPLY_TIMEOUT, "99ms", "at least 100ms");
    expect_unresolvable(PJ_SET_APPLY_TIMEOUT, "10", "such as 10s");
    expect_unresolvable(PJ_SET_LOG_LEVEL, "loud", "one of debug");
    expect_unresolvable(PJ_SET_SCHEMA, "", "schema name");
}

Test(config, both_urls_are_needed)
{
    struct pj_config config;
    struct pj_error error;
    pj_config_init(&config);
    cr_assert(pj_config_resolve(&config, &error) == PJ_ECONFIG);
    cr_assert(strstr(error.message, "WRITE_DATABASE_URL"));
    pj_config_set(&config, PJ_SET_WRITE_URL, PJ_RANK_ENVIRONMENT, "host=w", "environment");
    cr_assert(pj_config_resolve(&config, &error) == PJ_ECONFIG);
    cr_assert(strstr(error.message, "READ_DATABASE_URL"));
    pj_config_free(&config);
}

Test(config, an_empty_file_and_a_missing_one)
{
    struct pj_config config;
    struct pj_error error;
    cr_assert(read_text(&config, "", &error) == PJ_OK);
    cr_assert(pj_config_read_file(&config, "/nonexistent/f.ini", &error) == PJ_ECONFIG);
    cr_assert(strstr(error.message, "/nonexistent/f.ini"));
    pj_config_free(&config);
}
