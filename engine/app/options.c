/*
 * See options.h. getopt_long permutes, so that global flags and a verb's own may stand on either side of the verb;
 * which verb takes which option is looked up when the verb is known.
 */
#include "app/options.h"

#include "app/values.h"
#include "base/mem.h"

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum option_value {
    OPT_FILE = 'c',
    OPT_HELP = 'h',
    OPT_VERSION = 'V',
    OPT_OF_VERB = 256, /* + index in verb_options */
    OPT_SETTING = 512  /* + enum pj_setting_id */
};

/* What stands behind an option, and what it is kept as. */
enum taken {
    FLAG,     /* nothing: a bool is set */
    TEXT,     /* anything: const char * */
    NUMBER,   /* int */
    POSITION, /* pj_lsn */
    WAIT      /* how long; wait_ms and wait_given */
};

#define AT(member) offsetof(struct pj_verb_options, member)

/* The options of single verbs, with the verbs that take them. */
static const struct verb_option {
    const char *name;
    size_t at; /* in struct pj_verb_options */
    enum taken taken;
    int least, most;    /* of a NUMBER */
    const char *wanted; /* what it should have been; NULL: anything does */
    const char *verbs[10];
} verb_options[] = {
    {"json",
     AT(json),
     FLAG,
     0,
     0,
     NULL,
     {"status", "slot", "deadletters", "verify", "wait", "doctor", "version", "module"}},
    {"watch", AT(watch), FLAG, 0, 0, NULL, {"status"}},
    {"keys", AT(keys), NUMBER, 0, 1000000, "a number from 0 to 1000000", {"verify"}},
    {"lsn", AT(lsn), POSITION, 0, 0, "an LSN such as 16/B374D848", {"wait"}},
    {"timeout", AT(wait_ms), WAIT, 0, 0, "a time in seconds, or such as 500ms or 5min", {"wait"}},
    {"wait", AT(wait_ms), WAIT, 0, 0, "a time in seconds, or such as 500ms or 5min", {"init", "resync", "mirror"}},
    {"repair", AT(repair), FLAG, 0, 0, NULL, {"verify"}},
    {"sample", AT(sample), NUMBER, 1, 1000000, "a number of rows from 1 to 1000000", {"verify"}},
    {"all", AT(all), FLAG, 0, 0, NULL, {"rebuild", "deadletters"}},
    {"fresh", AT(fresh), FLAG, 0, 0, NULL, {"rebuild"}},
    {"no-verify", AT(no_verify), FLAG, 0, 0, NULL, {"rebuild", "module"}},
    {"keep-old", AT(keep_old), FLAG, 0, 0, NULL, {"rebuild", "module"}},
    {"rollback", AT(rollback), FLAG, 0, 0, NULL, {"rebuild"}},
    {"drop-kept", AT(drop_kept), FLAG, 0, 0, NULL, {"rebuild"}},
    {"cancel", AT(cancel), FLAG, 0, 0, NULL, {"rebuild"}},
    {"chunk", AT(chunk), NUMBER, 1, 100000, "a number from 1 to 100000", {"rebuild"}},
    {"max-rate", AT(max_rate), NUMBER, 1, 1000000000, "a number of rows a second", {"rebuild"}},
    {"key", AT(key), TEXT, 0, 0, NULL, {"deadletters"}},
    {"sqlstate", AT(sqlstate), TEXT, 0, 0, NULL, {"deadletters"}},
    {"dir", AT(dir), TEXT, 0, 0, NULL, {"module"}},
    {"record", AT(record), FLAG, 0, 0, NULL, {"module"}},
    {"no-wait", AT(no_wait), FLAG, 0, 0, NULL, {"module"}},
    {"drop-table", AT(drop_table), FLAG, 0, 0, NULL, {"module"}},
    {"changes", AT(changes), NUMBER, 1, 1000000, "a number from 1 to 1000000", {"module"}},
    {"seconds", AT(seconds), NUMBER, 1, 86400, "a number from 1 to 86400", {"module"}},
};
#undef AT
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

/* A duration; here a bare number is seconds, as everybody expects of a --timeout. */
static bool take_wait(const char *value, struct pj_verb_options *options)
{
    int seconds;
    options->wait_given = true;
    if (!pj_value_int(value, 0, 2000000, &seconds))
        return pj_value_duration(value, &options->wait_ms);
    options->wait_ms = seconds * 1000;
    return true;
}

/* False where the value is not what is wanted. */
static bool take_value(const struct verb_option *option, const char *value, struct pj_verb_options *options)
{
    void *place = (char *)options + option->at;
    switch (option->taken) {
    case FLAG:
        *(bool *)place = true;
        return true;
    case TEXT:
        *(const char **)place = value;
        return true;
    case NUMBER:
        return pj_value_int(value, option->least, option->most, place);
    case POSITION:
        return pj_lsn_parse(value, place);
    case WAIT:
        break;
    }
    return take_wait(value, options);
}

static void take_setting(struct pj_app *app, enum pj_setting_id id, const char *value)
{
    char *origin = pj_sprintf("--%s", pj_setting_info(id)->flag);
    pj_config_set(&app->config, id, PJ_RANK_FLAG, value, origin);
    pj_free(origin);
}

static int take_option(struct pj_app *app, int value, const char *argument, struct pj_error *error)
{
    if (value == OPT_FILE) {
        pj_free(app->config.file);
        app->config.file = pj_strdup(argument);
    } else if (value == OPT_HELP) {
        app->options.help = true;
    } else if (value >= OPT_SETTING) {
        take_setting(app, (enum pj_setting_id)(value - OPT_SETTING), argument);
    } else if (value >= OPT_OF_VERB) {
        const struct verb_option *option = &verb_options[value - OPT_OF_VERB];
        if (!take_value(option, argument, &app->options))
            return pj_error_set(error, PJ_ECONFIG, "--%s \"%.100s\" is not %s", option->name, argument, option->wanted);
    }
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------- reading */

enum { GETOPT_OPTIONS = 3 + VERB_OPTIONS + PJ_SETTING_COUNT + 1 };

static void fill_options(struct option *next)
{
    *next++ = (struct option){"config", required_argument, NULL, OPT_FILE};
    *next++ = (struct option){"help", no_argument, NULL, OPT_HELP};
    *next++ = (struct option){"version", no_argument, NULL, OPT_VERSION};
    for (int i = 0; i < VERB_OPTIONS; i++)
        *next++ = (struct option){verb_options[i].name, verb_options[i].taken == FLAG ? no_argument : required_argument,
                                  NULL, OPT_OF_VERB + i};
    for (int id = 0; id < PJ_SETTING_COUNT; id++)
        if (pj_setting_info((enum pj_setting_id)id)->flag)
            *next++ = (struct option){pj_setting_info((enum pj_setting_id)id)->flag, required_argument, NULL,
                                      OPT_SETTING + id};
    *next = (struct option){0};
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
    for (int i = 0; i < given->count; i++) {
        int index = given->values[i] - OPT_OF_VERB;
        if (index >= 0 && index < VERB_OPTIONS && !takes(verb, &verb_options[index])) {
            pj_error_set(error, PJ_ECONFIG, "pgprojector %s has no option --%s", verb->name, verb_options[index].name);
            return usage_error(error, verb);
        }
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
    struct option options[GETOPT_OPTIONS];
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
