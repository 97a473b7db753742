/* `version`: of the program, the module ABI, and the libraries it runs with (not those it was built with). */
#include "app/app.h"
#include "pgprojector.h"

#include <jansson.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <uv.h>

static void libpq_version(char *text, size_t size)
{
    int version = PQlibVersion();
    snprintf(text, size, "%d.%d", version / 10000, version % 10000);
}

static int print_json(const char *libpq)
{
    json_t *json = json_pack("{s:s,s:i,s:s,s:s,s:s}", "version", PJ_VERSION, "abi", PJ_ABI_VERSION, "libpq", libpq,
                             "libuv", uv_version_string(), "jansson", jansson_version_str());
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
    return PJ_OK;
}

int pj_version(struct pj_app *app, struct pj_error *error)
{
    (void)error;
    char libpq[32];
    libpq_version(libpq, sizeof libpq);
    if (app->options.json)
        return print_json(libpq);
    printf("pgprojector %s\nmodule ABI %d\nlibpq %s\nlibuv %s\njansson %s\n", PJ_VERSION, PJ_ABI_VERSION, libpq,
           uv_version_string(), jansson_version_str());
    return PJ_OK;
}
