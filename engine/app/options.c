/*
 * See options.h. getopt_long permutes, so that global flags and a verb's own may stand on either side of the verb;
 * which verb takes which option is looked up when the verb is known.
 */
#include "app/options.h"

#include "app/values.h"
#include "base/mem.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum option_value {
    OPT_FILE = 'c',
    OPT_HELP = 'h',
    OPT_VERSION = 'V',
    OPT_JSON = 256,
    OPT_WATCH,
    OPT_KEYS,
    OPT_LSN,
    OPT_TIMEOUT,
    OPT_WAIT,
    OPT_REPAIR,
    OPT_SAMPLE,
    OPT_ALL,
    OPT_FRESH,
    OPT_NO_VERIFY,
    OPT_KEEP_OLD,
    OPT_ROLLBACK,
    OPT_DROP_KEPT,
    OPT_CANCEL,
    OPT_CHUNK,
    OPT_MAX_RATE,
    OPT_KEY,
    OPT_SQLSTATE,
    OPT_DIR,
    OPT_RECORD,
    OPT_NO_WAIT,
    OPT_DROP_TABLE,
    OPT_CHANGES,
    OPT_SECONDS,
    OPT_SETTING /* + enum pj_setting_id */
};

/* The options of single verbs, with the verbs that take them. */
static const struct verb_option {
    int value;
    const char *name;
    const char *verbs[10];
} verb_options[] = {
    {OPT_JSON, "json", {"status", "slot", "deadletters", "verify", "wait", "doctor", "version", "module", NULL}},
    {OPT_WATCH, "watch", {"status", NULL}},
    {OPT_KEYS, "keys", {"verify", NULL}},
    {OPT_LSN, "lsn", {"wait", NULL}},
    {OPT_TIMEOUT, "timeout", {"wait", NULL}},
    {OPT_WAIT, "wait", {"init", "resync", "mirror", NULL}},
    {OPT_REPAIR, "repair", {"verify", NULL}},
    {OPT_SAMPLE, "sample", {"verify", NULL}},
    {OPT_ALL, "all", {"rebuild", "deadletters", NULL}},
    {OPT_FRESH, "fresh", {"rebuild", NULL}},
    {OPT_NO_VERIFY, "no-verify", {"rebuild", "module", NULL}},
    {OPT_KEEP_OLD, "keep-old", {"rebuild", "module", NULL}},
    {OPT_ROLLBACK, "rollback", {"rebuild", NULL}},
    {OPT_DROP_KEPT, "drop-kept", {"rebuild", NULL}},
    {OPT_CANCEL, "cancel", {"rebuild", NULL}},
    {OPT_CHUNK, "chunk", {"rebuild", NULL}},
    {OPT_MAX_RATE, "max-rate", {"rebuild", NULL}},
    {OPT_KEY, "key", {"deadletters", NULL}},
    {OPT_SQLSTATE, "sqlstate", {"deadletters", NULL}},
    {OPT_DIR, "dir", {"module", NULL}},
    {OPT_RECORD, "record", {"module", NULL}},
    {OPT_NO_WAIT, "no-wait", {"module", NULL}},
    {OPT_DROP_TABLE, "drop-table", {"module", NULL}},
    {OPT_CHANGES, "changes", {"module", NULL}},
    {OPT_SECONDS, "seconds", {"module", NULL}},
};
enum { VERB_OPTIONS = sizeof verb_options / sizeof *verb_options };

/* What getopt_long found, in order, until the verb is known. */
struct given {
    int count;
    int values[64];
};

static bool takes(const struct pj_verb *verb, const struct verb_option *option)
{
    for (const char *const *name = option->verbs; *name; name++)
        if (strcmp(*name, verb->name) == 0)
            return true;
    return false;
}

static int usage_error(struct pj_error *error, const struct pj_verb *verb)
{
    return pj_error_hint(error, "see pgprojector %s%s--help", verb ? verb->name : "", verb ? " " : "");
}

/* ------------------------------------------------------------------------------------------------- taking values */

static int bad_value(const char *flag, const char *value, const char *wanted, struct pj_error *error)
{
    return pj_error_set(error, PJ_ECONFIG, "--%s \"%.100s\" is not %s", flag, value, wanted);
}

/* A duration; here a bare number is seconds, as everybody expects of a --timeout. */
static int take_duration(const char *flag, const char *value, struct pj_app *app, struct pj_error *error)
{
    int seconds;
    app->options.wait_given = true;
    if (pj_value_int(value, 0, 2000000, &seconds))
        app->options.wait_ms = seconds * 1000;
    else if (!pj_value_duration(value, &app->options.wait_ms))
        return bad_value(flag, value, "a time in seconds, or such as 500ms or 5min", error);
    return PJ_OK;
}

static void take_setting(struct pj_app *app, enum pj_setting_id id, const char *value)
{
    char *origin = pj_sprintf("--%s", pj_setting_info(id)->flag);
    pj_config_set(&app->config, id, PJ_RANK_FLAG, value, origin);
    pj_free(origin);
}

static int take_option(struct pj_app *app, int value, const char *argument, struct pj_error *error)
{
    switch (value) {
    case OPT_FILE:
        pj_free(app->config.file);
        app->config.file = pj_strdup(argument);
        return PJ_OK;
    case OPT_HELP:
        app->options.help = true;
        return PJ_OK;
    case OPT_JSON:
        app->options.json = true;
        return PJ_OK;
    case OPT_WATCH:
        app->options.watch = true;
        return PJ_OK;
    case OPT_REPAIR:
        app->options.repair = true;
        return PJ_OK;
    case OPT_ALL:
        app->options.all = true;
        return PJ_OK;
    case OPT_FRESH:
        app->options.fresh = true;
        return PJ_OK;
    case OPT_NO_VERIFY:
        app->options.no_verify = true;
        return PJ_OK;
    case OPT_KEEP_OLD:
        app->options.keep_old = true;
        return PJ_OK;
    case OPT_ROLLBACK:
        app->options.rollback = true;
        return PJ_OK;
    case OPT_DROP_KEPT:
        app->options.drop_kept = true;
        return PJ_OK;
    case OPT_CANCEL:
        app->options.cancel = true;
        return PJ_OK;
    case OPT_KEY:
        app->options.key = argument;
        return PJ_OK;
    case OPT_SQLSTATE:
        app->options.sqlstate = argument;
        return PJ_OK;
    case OPT_CHUNK:
        return pj_value_int(argument, 1, 100000, &app->options.chunk)
                   ? PJ_OK
                   : bad_value("chunk", argument, "a number from 1 to 100000", error);
    case OPT_MAX_RATE:
        return pj_value_int(argument, 1, 1000000000, &app->options.max_rate)
                   ? PJ_OK
                   : bad_value("max-rate", argument, "a number of rows a second", error);
    case OPT_KEYS:
        return pj_value_int(argument, 0, 1000000, &app->options.keys)
                   ? PJ_OK
                   : bad_value("keys", argument, "a number from 0 to 1000000", error);
    case OPT_SAMPLE:
        return pj_value_int(argument, 1, 1000000, &app->options.sample)
                   ? PJ_OK
                   : bad_value("sample", argument, "a number of rows from 1 to 1000000", error);
    case OPT_DIR:
        app->options.dir = argument;
        return PJ_OK;
    case OPT_RECORD:
        app->options.record = true;
        return PJ_OK;
    case OPT_NO_WAIT:
        app->options.no_wait = true;
        return PJ_OK;
    case OPT_DROP_TABLE:
        app->options.drop_table = true;
        return PJ_OK;
    case OPT_CHANGES:
        return pj_value_int(argument, 1, 1000000, &app->options.changes)
                   ? PJ_OK
                   : bad_value("changes", argument, "a number from 1 to 1000000", error);
    case OPT_SECONDS:
        return pj_value_int(argument, 1, 86400, &app->options.seconds)
                   ? PJ_OK
                   : bad_value("seconds", argument, "a number from 1 to 86400", error);
    case OPT_LSN:
        return pj_lsn_parse(argument, &app->options.lsn)
                   ? PJ_OK
                   : bad_value("lsn", argument, "an LSN such as 16/B374D848", error);
    case OPT_TIMEOUT:
        return take_duration("timeout", argument, app, error);
    case OPT_WAIT:
        return take_duration("wait", argument, app, error);
    default:
        take_setting(app, (enum pj_setting_id)(value - OPT_SETTING), argument);
        return PJ_OK;
    }
}

/* ------------------------------------------------------------------------------------------------------- reading */

static int fill_options(struct option *options)
{
    static const struct option fixed[] = {{"config", required_argument, NULL, OPT_FILE},
                                          {"help", no_argument, NULL, OPT_HELP},
                                          {"version", no_argument, NULL, OPT_VERSION},
                                          {"json", no_argument, NULL, OPT_JSON},
                                          {"watch", no_argument, NULL, OPT_WATCH},
                                          {"keys", required_argument, NULL, OPT_KEYS},
                                          {"lsn", required_argument, NULL, OPT_LSN},
                                          {"timeout", required_argument, NULL, OPT_TIMEOUT},
                                          {"wait", required_argument, NULL, OPT_WAIT},
                                          {"repair", no_argument, NULL, OPT_REPAIR},
                                          {"sample", required_argument, NULL, OPT_SAMPLE},
                                          {"all", no_argument, NULL, OPT_ALL},
                                          {"fresh", no_argument, NULL, OPT_FRESH},
                                          {"chunk", required_argument, NULL, OPT_CHUNK},
                                          {"max-rate", required_argument, NULL, OPT_MAX_RATE},
                                          {"key", required_argument, NULL, OPT_KEY},
                                          {"sqlstate", required_argument, NULL, OPT_SQLSTATE},
                                          {"no-verify", no_argument, NULL, OPT_NO_VERIFY},
                                          {"keep-old", no_argument, NULL, OPT_KEEP_OLD},
                                          {"rollback", no_argument, NULL, OPT_ROLLBACK},
                                          {"drop-kept", no_argument, NULL, OPT_DROP_KEPT},
                                          {"cancel", no_argument, NULL, OPT_CANCEL},
                                          {"dir", required_argument, NULL, OPT_DIR},
                                          {"record", no_argument, NULL, OPT_RECORD},
                                          {"no-wait", no_argument, NULL, OPT_NO_WAIT},
                                          {"drop-table", no_argument, NULL, OPT_DROP_TABLE},
                                          {"changes", required_argument, NULL, OPT_CHANGES},
                                          {"seconds", required_argument, NULL, OPT_SECONDS}};
    int count = sizeof fixed / sizeof *fixed;
    memcpy(options, fixed, sizeof fixed);
    for (int id = 0; id < PJ_SETTING_COUNT; id++)
        if (pj_setting_info((enum pj_setting_id)id)->flag)
            options[count++] = (struct option){pj_setting_info((enum pj_setting_id)id)->flag, required_argument, NULL,
                                               OPT_SETTING + id};
    options[count] = (struct option){0};
    return count;
}

static const struct pj_verb *find_verb(const char *name)
{
    for (const struct pj_verb *verb = pj_verbs; verb->name; verb++)
        if (strcmp(verb->name, name) == 0)
            return verb;
    return NULL;
}

static int unknown_verb(const char *name, struct pj_error *error)
{
    const char *names[32] = {0};
    for (int i = 0; pj_verbs[i].name; i++)
        names[i] = pj_verbs[i].name;
    const char *nearest = pj_value_nearest(name, names);
    pj_error_set(error, PJ_ECONFIG, "there is no command \"%.60s\"", name);
    return nearest ? pj_error_hint(error, "did you mean %s? All of them: pgprojector --help", nearest)
                   : usage_error(error, NULL);
}

static int check_given(const struct given *given, const struct pj_verb *verb, struct pj_error *error)
{
    for (int i = 0; i < given->count; i++)
        for (int j = 0; j < VERB_OPTIONS; j++)
            if (given->values[i] == verb_options[j].value && !takes(verb, &verb_options[j])) {
                pj_error_set(error, PJ_ECONFIG, "pgprojector %s has no option --%s", verb->name, verb_options[j].name);
                return usage_error(error, verb);
            }
    return PJ_OK;
}

static int find_operands(struct pj_app *app, const struct pj_verb *verb, int argc, char **argv, struct pj_error *error)
{
    app->noperands = argc;
    app->operands = argv;
    if (verb->operands < 0 || argc <= verb->operands)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "%s: \"%.60s\" is one argument too many", verb->name, argv[verb->operands]);
    return usage_error(error, verb);
}

/* The command of a line that could not be read to its end; NULL: none is to be seen. */
static const struct pj_verb *verb_among(int argc, char **argv)
{
    const struct pj_verb *verb = NULL;
    for (int i = 1; i < argc && !verb; i++)
        verb = find_verb(argv[i]);
    return verb;
}

static int read_flags(struct pj_app *app, int argc, char **argv, struct given *given, struct pj_error *error)
{
    struct option options[32 + PJ_SETTING_COUNT];
    fill_options(options);
    int value;
    opterr = 0; /* the message is ours */
    while ((value = getopt_long(argc, argv, ":c:hV", options, NULL)) != -1) {
        if (value == '?' || value == ':') {
            pj_error_set(error, PJ_ECONFIG, value == ':' ? "%s needs a value" : "unknown option %s", argv[optind - 1]);
            return usage_error(error, verb_among(argc, argv));
        }
        if (given->count < (int)(sizeof given->values / sizeof *given->values))
            given->values[given->count++] = value;
        if (value != OPT_VERSION && take_option(app, value, optarg, error) != PJ_OK)
            return error->code;
    }
    return PJ_OK;
}

static bool was_given(const struct given *given, int value)
{
    for (int i = 0; i < given->count; i++)
        if (given->values[i] == value)
            return true;
    return false;
}

int pj_options_read(struct pj_app *app, int argc, char **argv, const struct pj_verb **verb, struct pj_error *error)
{
    pj_error_clear(error);
    *verb = NULL;
    struct given given = {0};
    if (read_flags(app, argc, argv, &given, error) != PJ_OK)
        return error->code;
    if (was_given(&given, OPT_VERSION)) {
        *verb = find_verb("version");
        return PJ_OK;
    }
    bool help_word = optind < argc && strcmp(argv[optind], "help") == 0;
    optind += help_word;
    app->options.help = app->options.help || help_word;
    if (optind >= argc) {
        if (app->options.help)
            return PJ_OK;
        pj_error_set(error, PJ_ECONFIG, "no command given");
        return usage_error(error, NULL);
    }
    *verb = find_verb(argv[optind]);
    if (!*verb)
        return unknown_verb(argv[optind], error);
    if (app->options.help)
        return PJ_OK;
    if (check_given(&given, *verb, error) != PJ_OK)
        return error->code;
    return find_operands(app, *verb, argc - optind - 1, argv + optind + 1, error);
}
