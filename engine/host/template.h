/*
 * The SQL of modules has placeholders in braces; see pgprojector.h. A brace that is to stay one is doubled: "{{".
 */
#ifndef PJ_HOST_TEMPLATE_H
#define PJ_HOST_TEMPLATE_H

#include "base/buf.h"
#include "base/error.h"

/*
 * Writes what stands for one placeholder. `name` is what is in the braces before any "(": "messages", "option:x",
 * "keys"; `arguments` are the expressions between the parentheses, split at top-level commas and trimmed. Returns
 * PJ_OK, or PJ_ECONFIG with a message for a name it does not know.
 */
typedef int (*pj_template_fn)(void *context, const char *name, const char *const *arguments, int count,
                              struct pj_buf *sql, struct pj_error *error);

/* Expands `text` into `sql`. Braces inside SQL string literals, quoted identifiers and comments are left alone. */
int pj_template_expand(const char *text, pj_template_fn expand, void *context, struct pj_buf *sql,
                       struct pj_error *error);

#endif
