/* See faults.h. */
#include "host/faults.h"

#include "base/mem.h"

#include <string.h>

void pj_fault_list_add(struct pj_fault_list *list, const struct pj_error *error)
{
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->faults[i].message, error->message) == 0)
            return;
    list->faults = pj_realloc(list->faults, sizeof *list->faults * (size_t)(list->count + 1));
    list->faults[list->count++] = *error;
}

void pj_fault_list_free(struct pj_fault_list *list)
{
    pj_free(list->faults);
    *list = (struct pj_fault_list){0};
}
