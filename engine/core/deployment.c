/* See deployment.h: deployments taken apart and put together anew. */
#include "core/deployment.h"

#include "base/mem.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdio.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------------- bindings */

typedef const char *pair[2];

static int count_pairs(const pair *list)
{
    int count = 0;
    while (list && list[count][0])
        count++;
    return count;
}

static const pair *copy_pairs(const pair *list)
{
    int count = count_pairs(list);
    pair *copy = pj_alloc(sizeof *copy * (size_t)(count + 1));
    for (int i = 0; i < count; i++) {
        copy[i][0] = pj_strdup(list[i][0]);
        copy[i][1] = pj_strdup(list[i][1]);
    }
    return (const pair *)copy;
}

static void free_pairs(const pair *list)
{
    for (int i = 0, count = count_pairs(list); i < count; i++) {
        pj_free((void *)(uintptr_t)list[i][0]);
        pj_free((void *)(uintptr_t)list[i][1]);
    }
    pj_free((void *)(uintptr_t)list);
}

static bool same_pairs(const pair *a, const pair *b)
{
    int count = count_pairs(a);
    bool same = count == count_pairs(b);
    for (int i = 0; same && i < count; i++)
        same = strcmp(a[i][0], b[i][0]) == 0 && strcmp(a[i][1], b[i][1]) == 0;
    return same;
}

bool pj_binding_same(const struct pj_binding *a, const struct pj_binding *b)
{
    return a->halt_on_error == b->halt_on_error && same_pairs(a->tables, b->tables) &&
           same_pairs(a->columns, b->columns) && same_pairs(a->options, b->options);
}

/* With the ends of the texts, so that no two lists read alike. */
static void sum_pairs(XXH3_state_t *state, const pair *list)
{
    for (int i = 0, count = count_pairs(list); i < count; i++)
        for (int j = 0; j < 2; j++)
            XXH3_128bits_update(state, list[i][j], strlen(list[i][j]) + 1);
    XXH3_128bits_update(state, "", 1);
}

struct pj_module_mark pj_module_mark(const struct pj_module_image *image, const struct pj_binding *binding)
{
    struct pj_module_mark mark;
    XXH3_state_t *state = XXH3_createState();
    pj_module_image_digest(image, mark.text);
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, mark.text, strlen(mark.text));
    sum_pairs(state, binding->tables);
    sum_pairs(state, binding->columns);
    sum_pairs(state, binding->options);
    XXH128_hash_t sum = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(mark.text, sizeof mark.text, "%016llx%016llx", (unsigned long long)sum.high64,
             (unsigned long long)sum.low64);
    return mark;
}

void pj_binding_free(struct pj_binding *binding)
{
    free_pairs(binding->tables);
    free_pairs(binding->columns);
    free_pairs(binding->options);
    *binding = (struct pj_binding){0};
}

/* --------------------------------------------------------------------------------------------------------- modules */

struct pj_module_name pj_deployed_name(const struct pj_deployed_module *module)
{
    struct pj_module_name name;
    const char *slash = strrchr(module->path, '/');
    snprintf(name.text, sizeof name.text, "%s", slash ? slash + 1 : module->path);
    size_t length = strlen(name.text);
    if (length > 3 && strcmp(name.text + length - 3, ".so") == 0)
        name.text[length - 3] = '\0';
    return name;
}

struct pj_deployed_module *pj_deployment_add(struct pj_deployment *deployment, const struct pj_deployed_module *module)
{
    size_t size = sizeof *deployment->modules * (size_t)(deployment->nmodules + 1);
    deployment->modules = pj_realloc(deployment->modules, size);
    struct pj_deployed_module *copy = &deployment->modules[deployment->nmodules++];
    *copy = (struct pj_deployed_module){
        .path = pj_strdup(module->path),
        .image = module->image ? pj_module_image_share(module->image) : NULL,
        .binding = {.tables = copy_pairs(module->binding.tables),
                    .columns = copy_pairs(module->binding.columns),
                    .options = copy_pairs(module->binding.options),
                    .default_schema = deployment->default_schema,
                    .beside = module->binding.beside,
                    .halt_on_error = module->binding.halt_on_error},
    };
    return copy;
}

static void free_module(struct pj_deployed_module *module)
{
    pj_free(module->path);
    pj_module_image_release(module->image);
    pj_binding_free(&module->binding);
}

void pj_deployment_remove(struct pj_deployment *deployment, int index)
{
    free_module(&deployment->modules[index]);
    deployment->nmodules--;
    memmove(&deployment->modules[index], &deployment->modules[index + 1],
            sizeof *deployment->modules * (size_t)(deployment->nmodules - index));
}

void pj_deployment_leave_out(struct pj_deployment *deployment, int index, const char *why)
{
    size_t size = sizeof *deployment->left_out * (size_t)(deployment->nleft_out + 1);
    deployment->left_out = pj_realloc(deployment->left_out, size);
    deployment->left_out[deployment->nleft_out++] =
        (struct pj_left_out){pj_strdup(pj_deployed_name(&deployment->modules[index]).text), pj_strdup(why)};
    pj_deployment_remove(deployment, index);
}

const char *pj_deployment_why_left_out(const struct pj_deployment *deployment, const char *name)
{
    for (int i = 0; i < deployment->nleft_out; i++)
        if (strcmp(deployment->left_out[i].name, name) == 0)
            return deployment->left_out[i].why;
    return NULL;
}

struct pj_deployed_module *pj_deployment_find(const struct pj_deployment *deployment, const char *name, bool beside)
{
    for (int i = 0; i < deployment->nmodules; i++) {
        struct pj_deployed_module *module = &deployment->modules[i];
        if (module->binding.beside == beside && strcmp(pj_deployed_name(module).text, name) == 0)
            return module;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------- the whole */

void pj_deployment_want(struct pj_deployment *deployment, const char *schema, const char *name, const char *wanted_by)
{
    for (int i = 0; i < deployment->nwanted; i++)
        if (strcmp(deployment->wanted[i].schema, schema) == 0 && strcmp(deployment->wanted[i].name, name) == 0)
            return;
    size_t size = sizeof *deployment->wanted * (size_t)(deployment->nwanted + 1);
    deployment->wanted = pj_realloc(deployment->wanted, size);
    deployment->wanted[deployment->nwanted++] =
        (struct pj_wanted_table){pj_strdup(schema), pj_strdup(name), pj_strdup(wanted_by)};
}

struct pj_deployment pj_deployment_without_modules(const struct pj_deployment *from)
{
    struct pj_deployment deployment = *from;
    deployment.write_url = pj_strdup(from->write_url);
    deployment.read_url = pj_strdup(from->read_url);
    deployment.slot = pj_strdup(from->slot);
    deployment.default_schema = pj_strdup(from->default_schema);
    deployment.module_dir = pj_strdup(from->module_dir);
    deployment.nmodules = deployment.nwanted = deployment.nleft_out = 0;
    deployment.modules = NULL;
    deployment.left_out = NULL;
    deployment.wanted = NULL;
    for (int i = 0; i < from->nwanted; i++)
        pj_deployment_want(&deployment, from->wanted[i].schema, from->wanted[i].name, from->wanted[i].wanted_by);
    return deployment;
}

void pj_deployment_free(struct pj_deployment *deployment)
{
    for (int i = 0; i < deployment->nmodules; i++)
        free_module(&deployment->modules[i]);
    for (int i = 0; i < deployment->nwanted; i++)
        pj_wanted_table_free(&deployment->wanted[i]);
    for (int i = 0; i < deployment->nleft_out; i++) {
        pj_free(deployment->left_out[i].name);
        pj_free(deployment->left_out[i].why);
    }
    pj_free(deployment->left_out);
    pj_free(deployment->modules);
    pj_free(deployment->wanted);
    pj_free(deployment->write_url);
    pj_free(deployment->read_url);
    pj_free(deployment->slot);
    pj_free(deployment->default_schema);
    pj_free(deployment->module_dir);
    memset(deployment, 0, sizeof *deployment);
}
