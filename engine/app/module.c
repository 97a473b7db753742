/* `module`: which sub-command, with which of the options, and where modules are. */
#include "app/module.h"

#include "app/deployment.h"
#include "app/values.h"
#include "base/mem.h"

#include <string.h>
#include <unistd.h>

static const struct sub_command {
    const char *name;
    int (*run)(struct pj_app *app, struct pj_error *error);
    int least, most; /* operands; most -1: any number */
    bool dir, json, record, limits, wait, drop;
    const char *usage;
} commands[] = {
    {"new", pj_module_new_command, 1, 1, .dir = true, .usage = "new NAME [--dir DIR]"},
    {"check", pj_module_check_command, 1, -1, .json = true, .usage = "check FILE ... [--json]"},
    {"test", pj_module_test_command, 1, -1, .record = true, .usage = "test DIR|FILE.so [FIXTURE ...] [--record]"},
    {"record", pj_module_record_command, 1, 1, .limits = true,
     .usage = "record NAME|FILE.so [--changes N] [--seconds S]"},
    {"add", pj_module_add_command, 1, -1, .wait = true,
     .usage = "add NAME|FILE.so ... [--keep-old] [--no-wait] [--no-verify]"},
    {"remove", pj_module_remove_command, 1, 1, .wait = true, .drop = true,
     .usage = "remove NAME [--drop-table] [--no-wait]"},
    {"list", pj_module_list_command, 0, 0, .json = true, .usage = "list [--json]"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int wrong(struct pj_error *error, const struct sub_command *command)
{
    if (command)
        return pj_error_hint(error, "usage: pgprojector module %s; see pgprojector module --help", command->usage);
    return pj_error_hint(error, "one of new, check, test, record, add, remove, list; see pgprojector module --help");
}

static int unknown(const char *word, struct pj_error *error)
{
    const char *names[COMMANDS + 1] = {0};
    for (int i = 0; i < COMMANDS; i++)
        names[i] = commands[i].name;
    const char *nearest = pj_value_nearest(word, names);
    pj_error_set(error, PJ_ECONFIG, "module has no command \"%.60s\"", word);
    return nearest ? pj_error_hint(error, "did you mean pgprojector module %s?", nearest) : wrong(error, NULL);
}

/* Options that another sub-command takes. */
static const char *misplaced(const struct pj_verb_options *options, const struct sub_command *command)
{
    if (options->dir && !command->dir)
        return "dir";
    if (options->json && !command->json)
        return "json";
    if (options->record && !command->record)
        return "record";
    if (options->changes && !command->limits)
        return "changes";
    if (options->seconds && !command->limits)
        return "seconds";
    if (options->no_wait && !command->wait)
        return "no-wait";
    if (options->no_verify && command->run != pj_module_add_command)
        return "no-verify";
    if (options->keep_old && command->run != pj_module_add_command)
        return "keep-old";
    return options->drop_table && !command->drop ? "drop-table" : NULL;
}

static int check_usage(const struct pj_app *app, const struct sub_command *command, struct pj_error *error)
{
    int operands = app->noperands - 1;
    const char *option = misplaced(&app->options, command);
    if (option)
        pj_error_set(error, PJ_ECONFIG, "module %s has no option --%s", command->name, option);
    else if (operands < command->least)
        pj_error_set(error, PJ_ECONFIG, "module %s needs an argument", command->name);
    else if (command->most >= 0 && operands > command->most)
        pj_error_set(error, PJ_ECONFIG, "module %s: \"%.60s\" is one argument too many", command->name,
                     app->operands[command->most + 1]);
    else
        return PJ_OK;
    return wrong(error, command);
}

int pj_module_verb(struct pj_app *app, struct pj_error *error)
{
    if (app->noperands == 0) {
        pj_error_set(error, PJ_ECONFIG, "module: what about it?");
        return wrong(error, NULL);
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, app->operands[0]) != 0)
            continue;
        int code = check_usage(app, &commands[i], error);
        return code == PJ_OK ? commands[i].run(app, error) : code;
    }
    return unknown(app->operands[0], error);
}

/* --------------------------------------------------------------------------------------------------------- helpers */

char *pj_module_file(const struct pj_app *app, const char *name)
{
    size_t length = strlen(name);
    if (strchr(name, '/') || (length > 3 && strcmp(name + length - 3, ".so") == 0))
        return pj_strdup(name);
    char *directory = pj_deployment_module_dir(&app->config);
    char *path = pj_sprintf("%s/%s.so", directory, name);
    char *example = pj_sprintf("%s/../examples/%s.so", directory, name);
    pj_free(directory);
    bool is_example = access(path, F_OK) != 0 && access(example, F_OK) == 0;
    pj_free(is_example ? path : example);
    return is_example ? example : path;
}
