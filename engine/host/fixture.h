/*
 * Fixtures: recorded changes, and what apply() must make of them. Testing a module needs no server then.
 *
 * A fixture file is JSON: one case, or an array of cases. A case is an object with these members, all but "changes" may
 * be left out:
 *
 *   "name"     what is shown of it
 *   "options"  {"null_last_read": "all"}: options that do not have their default
 *   "types"    {"messages.content": "text"}: a column's type in the source, where the module declares PJ_ANY for it or does
 *              not declare it; for a key column of the target, {"target.user_id": "uuid"}
 *   "changes"  [{"table": "messages", "old": {…} or null, "new": {…} or null}, …]: one for each row; the members of old and
 *              new are columns that the module declares (without declared columns: the routing key)
 *   "expect"   what must come out: "streams": {"changes": [{…}, …]}, "dirty_keys": [{…}, …] (routing keys), "dirty_rows":
 *              [{…}, …] (full keys), "dirty_all": true, or "error": "a part of the message". What is left out is none
 *
 * Values are PostgreSQL's text output, as JSON strings; integers and booleans may stand as such. A column that is left
 * out is NULL. Numbers with a fraction must be strings, for a JSON number would pass through a double.
 */
#ifndef PJ_HOST_FIXTURE_H
#define PJ_HOST_FIXTURE_H

#include "base/buf.h"
#include "base/error.h"
#include "pgprojector.h"

#include <jansson.h>
#include <stdbool.h>

/* Reads a file into an array of cases (json_decref). PJ_ECONFIG with line and column. */
int pj_fixture_read(const char *path, json_t **cases, struct pj_error *error);

/* The case's name, or "case N". The result lives as long as the case and `space`. */
const char *pj_fixture_name(const json_t *test, size_t index, char space[32]);

/*
 * Runs a case: forwards, backwards and forwards again, for apply() must not depend on the order of the changes, nor
 * remember anything. *actual (json_decref) is what came out, in the form of "expect". PJ_ECONFIG where the case is
 * ill-formed, naming the place; PJ_EFAIL where apply() depends on order or remembers. apply()'s own refusal is a
 * result.
 */
int pj_fixture_run(const struct pj_module *module, const json_t *test, json_t **actual, struct pj_error *error);

/*
 * Holds what came out against what the case expects: appends a line for each difference to `report` (none: they agree).
 * PJ_ECONFIG where "expect" is missing or ill-formed.
 */
int pj_fixture_compare(const struct pj_module *module, const json_t *test, const json_t *actual, struct pj_buf *report,
                       struct pj_error *error);

/* A value as it stands in a fixture: null, an integer, a boolean, or a string. */
json_t *pj_fixture_value(enum pj_type type, struct pj_value value);

/* "uuid" for PJ_UUID and so on, the words of "types"; "any" for PJ_ANY. */
const char *pj_fixture_type_name(enum pj_type type);

#endif
