/* The forms of values in a configuration: amounts with units, lists of names; and the nearest of several words. */
#ifndef PJ_APP_VALUES_H
#define PJ_APP_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "250ms", "60s", "5min", "1h" (a bare 0 too) to milliseconds; false for anything else, or more than 24 days. */
bool pj_value_duration(const char *text, int *milliseconds);

/* "8388608", "512kB", "8MB", "1GB" (also KiB, MiB, GiB, or K, M, G; all powers of 1024) to bytes. */
bool pj_value_bytes(const char *text, size_t *bytes);

/* "park" or "halt". */
bool pj_value_on_error(const char *text, bool *halt);

/* A whole decimal number within [least, most]. */
bool pj_value_int(const char *text, int least, int most, int *number);

/*
 * Takes the next name off a comma list. A name is SQL's: parts joined by dots, each a bare word (folded to lower case)
 * or "quoted" with "" for a quote. Returns 1 with *schema (NULL where the name has one part) and *name, to be freed; 0
 * at the end of the list; -1 where the text is none, *at then being where it went wrong. `at` starts at the list's
 * beginning.
 */
int pj_value_next_name(const char **at, char **schema, char **name);

/* Takes the next plain word off a comma list, trimmed; NULL at the end. To be freed. Empty words are left out. */
char *pj_value_next_word(const char **at);

/* The word of the NULL-ended list that is nearest to `word`, or NULL where none is near. */
const char *pj_value_nearest(const char *word, const char *const *words);

#endif
