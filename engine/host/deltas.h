/*
 * What one projection's apply() says of one batch, or of the parts of one transaction: combined delta rows, and dirty
 * keys. This is the host's side of the module ABI (struct pj_host, struct pj_call). Pure: no I/O, no clock.
 */
#ifndef PJ_HOST_DELTAS_H
#define PJ_HOST_DELTAS_H

#include "base/error.h"
#include "pgprojector.h"

#include <stdbool.h>
#include <stddef.h>

struct pj_deltas;

/* `options`: one value for each of the module's options, in their order; borrowed, like the module. */
struct pj_deltas *pj_deltas_new(const struct pj_module *module, const char *const *options);
void pj_deltas_free(struct pj_deltas *deltas);

/* Of what types the target's key columns are, one for each; borrowed. What apply() marks dirty must then be such
 * values: a key that no server takes could neither be recomputed nor parked, and would be nobody's. */
void pj_deltas_know_kinds(struct pj_deltas *deltas, const enum pj_type *kinds);

/* Forgets everything, keeps memory for the next batch. */
void pj_deltas_reset(struct pj_deltas *deltas);

/*
 * Hands one changed row to the module. The rows have the columns that the source declares, in that order; for a source
 * without columns, one value, the routing key (none where `key` is NULL, too). Without an apply(), marks the old and
 * the new routing key dirty. PJ_EFAIL, with the module's words, where apply() refuses, or with ours, where what it
 * emits cannot be taken (a sum beyond bigint, a key that is no value of its type).
 */
int pj_deltas_apply(struct pj_deltas *deltas, const struct pj_change *change, struct pj_error *error);

/* Marks from outside the module (a TRUNCATE, a repair). */
void pj_deltas_mark_all(struct pj_deltas *deltas);
void pj_deltas_mark(struct pj_deltas *deltas, const struct pj_value *key, int count);

/*
 * Keys that are parked (dead letters): what concerns them is withheld until they are forgotten. They outlive resets.
 */
void pj_deltas_park(struct pj_deltas *deltas, const struct pj_value *routing_key);
void pj_deltas_forget_parked(struct pj_deltas *deltas);

/*
 * Instead of, or after, pj_deltas_finish: takes the delta rows' routing keys as dirty and drops the rows, for a
 * projection that does not take deltas now. What stays are keys (or all).
 */
void pj_deltas_finish_as_keys(struct pj_deltas *deltas);

/*
 * To be called once after the last change of a batch: withholds delta rows and full keys whose routing key is dirty as
 * a whole (or everything where all is dirty). What follows may be read until the next reset.
 */
void pj_deltas_finish(struct pj_deltas *deltas);

/*
 * A transaction in parts: pj_deltas_hold, instead of pj_deltas_finish, where the rows of a part are to be combined with
 * those of the next: nothing can be read of it. pj_deltas_next_part, instead of pj_deltas_reset, before the next one:
 * rows that were finished (they are merged by then) are forgotten, rows that were held stay, and so do all keys.
 */
void pj_deltas_hold(struct pj_deltas *deltas);
void pj_deltas_next_part(struct pj_deltas *deltas);

/* The bytes that the delta rows take: what grows while they are held. */
size_t pj_deltas_bytes(const struct pj_deltas *deltas);

/* The rows of a stream: `*count` of them; row i's values are at result[i * pj_stream_column_count(stream)]. Sorted
 * by the stream's key bytes, so that the merge touches the target in order. */
const struct pj_value *pj_deltas_rows(const struct pj_deltas *deltas, int stream, size_t *count);

bool pj_deltas_all_dirty(const struct pj_deltas *deltas);

/* Dirty keys: values at result[i * width]; width 1 for routing keys, the number of key columns for full keys. Each
 * once, sorted by bytes. Where the target's key has one column only, all are routing keys. */
const struct pj_value *pj_deltas_routing_keys(const struct pj_deltas *deltas, size_t *count);
const struct pj_value *pj_deltas_full_keys(const struct pj_deltas *deltas, size_t *count);

/* How many keys are dirty: what grows over the parts of a large transaction. */
size_t pj_deltas_key_count(const struct pj_deltas *deltas);

/* Takes all for dirty, and forgets keys and delta rows. */
void pj_deltas_keys_to_all(struct pj_deltas *deltas);

#endif
