/* Which module of those that lie about keeps a table, for the author's kit: a source may be another module's target. */
#include "app/module.h"
#include "base/mem.h"
#include "core/chain.h"

#include <glob.h>

static bool keeps(const char *path, const char *default_schema, const char *schema, const char *table, char **name)
{
    struct pj_loaded_module loaded;
    struct pj_error ignored;
    if (pj_module_load(&loaded, path, &ignored) != PJ_OK)
        return false;
    const struct pj_binding binding = {.default_schema = default_schema};
    const struct pj_chain_node node = {loaded.module, &binding};
    bool found = pj_chain_is_target(&node, 1, schema, table);
    if (found)
        *name = pj_strdup(loaded.module->name);
    pj_module_unload(&loaded);
    return found;
}

char *pj_module_keeper(char *const *directories, const char *default_schema, const char *schema, const char *table)
{
    char *name = NULL;
    for (; *directories && !name; directories++) {
        char *pattern = pj_sprintf("%s/*.so", *directories);
        glob_t found = {0};
        glob(pattern, 0, NULL, &found);
        for (size_t i = 0; i < found.gl_pathc && !name; i++)
            keeps(found.gl_pathv[i], default_schema, schema, table, &name);
        globfree(&found);
        pj_free(pattern);
    }
    return name;
}
