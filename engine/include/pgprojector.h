/*
 * pgprojector.h - what a projection module sees of pgprojector. The only header a module needs.
 *
 * A projection keeps one table of the read database (its target) equal to a query over mirrored source tables (its
 * definition). A module says which tables it reads, what the target's key is and what the definition is; that alone is
 * a correct projection. An optional C function, apply(), makes it fast: it turns a changed row (before, after) into
 * deltas, which the module's own merge statements then add to the target, many rows at a time.
 *
 * A module is a shared object that exports one function, pj_module(), returning a constant descriptor. It links against
 * nothing of the host: what it may call is handed to apply(). It keeps no state of its own: apply() must be a function
 * of its arguments, for it may be called for changes whose transaction is rolled back and tried again.
 */
#ifndef PGPROJECTOR_H
#define PGPROJECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PJ_MODULE_MAGIC UINT32_C(0x506a4d6f) /* "PjMo" */
#define PJ_ABI_VERSION 2

/* ------------------------------------------------------------------------------------------------------ values */

/*
 * The types a module can read as numbers or bytes. `data` of a value holds:
 *   PJ_BOOL          1 byte, 0 or 1
 *   PJ_INT2/4/8      2, 4, 8 bytes, network byte order                         (smallint, integer, bigint)
 *   PJ_TEXT          UTF-8, not NUL-terminated                                 (text, varchar, char(n))
 *   PJ_BYTEA         the bytes
 *   PJ_DATE          4 bytes, network order: days since 2000-01-01
 *   PJ_TIMESTAMP     8 bytes, network order: microseconds since 2000-01-01     (±infinity: INT64_MAX, INT64_MIN)
 *   PJ_TIMESTAMPTZ   the same, UTC
 *   PJ_UUID          16 bytes
 *   PJ_ANY           any other type: PostgreSQL's text output (numeric, float, json, arrays, enums …), UTF-8
 * These are PostgreSQL's own binary send formats, so that equal values have equal bytes, except PJ_ANY, whose texts may
 * differ for values that compare equal (1.0, 1.00).
 */
enum pj_type {
    PJ_ANY = 0,
    PJ_BOOL,
    PJ_INT2,
    PJ_INT4,
    PJ_INT8,
    PJ_TEXT,
    PJ_BYTEA,
    PJ_DATE,
    PJ_TIMESTAMP,
    PJ_TIMESTAMPTZ,
    PJ_UUID
};

/* One value. The bytes belong to the host and live as long as the call that was given them. */
struct pj_value {
    const unsigned char *data;
    int32_t length; /* bytes at data, or PJ_NULL */
};

#define PJ_NULL (-1) /* the length of SQL's NULL */

/* 1 for SQL's NULL. */
static inline int pj_is_null(struct pj_value value)
{
    return value.length == PJ_NULL;
}

/* 1 where both are NULL or both have the same bytes. */
static inline int pj_equal(struct pj_value a, struct pj_value b)
{
    return a.length == b.length && (a.length <= 0 || memcmp(a.data, b.data, (size_t)a.length) == 0);
}

/* The number in a value of PJ_INT2, 4, 8, PJ_DATE, PJ_TIMESTAMP or PJ_TIMESTAMPTZ; not for NULL. */
static inline int64_t pj_int64(struct pj_value value)
{
    uint64_t bits = value.length > 0 && value.data[0] & 0x80 ? UINT64_MAX : 0;
    for (int32_t i = 0; i < value.length; i++)
        bits = bits << 8 | value.data[i];
    return (int64_t)bits;
}

/* Makes a PJ_INT8 (or timestamp) value of a number, its 8 bytes in `space`, which must live as long as the value. */
static inline struct pj_value pj_make_int64(int64_t number, unsigned char space[8])
{
    for (int i = 0; i < 8; i++)
        space[i] = (unsigned char)((uint64_t)number >> (56 - 8 * i));
    struct pj_value value = {space, 8};
    return value;
}

/* A NULL, of any type. */
static inline struct pj_value pj_make_null(void)
{
    struct pj_value value = {NULL, PJ_NULL};
    return value;
}

/* ------------------------------------------------------------------------------------------------- declarations */

/* A column that apply() reads, at most 64 of a source. Lists of columns end with a NULL name. */
struct pj_column {
    const char *name;  /* as in the source table; matched exactly, case included */
    enum pj_type type; /* must be the type of the source's column (a domain counts as its base type); PJ_ANY fits none
                          of the listed types but is allowed for them: the value then has the listed form */
};

/*
 * A source table. Lists of sources end with a NULL table; a module has one at least, each once.
 *
 * It may be the target of another module of the deployment, under the name that this one declares: the projection is
 * then chained on it. What is written there makes rows here dirty, in the same transaction; apply() is not called for
 * it. `key` and `columns` are columns of that table's primary key, then: `columns` either NULL (all rows of a routing
 * key are dirty) or those that carry all of this target's key, in its order (single rows are). Nothing is mirrored of
 * it, it takes no index and no other column names from here, and projections must not read each other in a circle.
 */
struct pj_source {
    const char *table; /* "messages" (in the schema that the configuration names, normally public) or "schema.table" */
    const char *key;   /* the column that carries the projection's routing key; NULL: a change of this table may
                          concern any key, so that without an apply() the whole target is recomputed */
    const struct pj_column *columns; /* what apply() sees of a row, in this order; NULL without an apply() */
};

/* What the host does when a second row is emitted under the same key in one batch (see struct pj_stream). */
enum pj_combine {
    PJ_KEY,  /* part of the stream's key (at least one column, before all others; the first one carries the routing key,
                and is of the type of the target's first key column; where that is none of those listed, PJ_TEXT) */
    PJ_SUM,  /* added up; PJ_INT8 only; NULL counts as 0; a sum beyond bigint makes the row a refused one */
    PJ_MIN,  /* the lesser; integers, dates and timestamps; NULL gives way */
    PJ_MAX,  /* the greater; the same */
    PJ_LAST, /* the one emitted last that is not NULL */
};

/* A column of a delta stream. Lists end with a NULL name. */
struct pj_stream_column {
    const char *name;
    enum pj_type type; /* not PJ_ANY */
    enum pj_combine combine;
};

/*
 * A delta stream: rows that apply() emits, combined by key over a batch, then merged into the target by `merge`, one
 * SQL statement in which
 *   {delta}      stands for the relation of the batch's combined rows, its columns named as declared here,
 *   {target}     for the projection's own table, which is as it was before the batch,
 *   {messages}   for the mirror of a declared source (its name as declared), as it is after the batch,
 *   {option:x}   for the value of an option as an SQL literal.
 *
 * A batch is a number of whole transactions, or, of one that is too large to be held, some of its parts. apply() sees a
 * row once a part (which may also be some rows of a batch, whose former values are too large to be held together), so
 * what a later part takes away may be combined with what an earlier one brought: of a message that was inserted and
 * deleted again in the same transaction, the deltas can say both that it came and that it went, and no mirror has its
 * row. For sums that is nothing; a greatest or least value that was emitted (and PJ_LAST) need not be
 * there any more. Take "the greatest added" for the new greatest only where nothing as great was removed; else look it
 * up in the mirror, or have apply() mark the key dirty.
 *
 * It must touch only rows whose routing key is that of a delta, and it need not bother about keys that are marked
 * dirty: their deltas are withheld. Where other projections are chained on the target, it must be one INSERT, UPDATE or
 * DELETE of it, without a RETURNING of its own, without INSERT, UPDATE or DELETE in a WITH, and must not change the
 * key: the host has it return the keys that it touched. Lists of streams end with a NULL name.
 */
struct pj_stream {
    const char *name;
    const struct pj_stream_column *columns; /* ends with a NULL name */
    const char *merge;
};

/* A setting that the configuration file may give in the section [module NAME]. Lists end with a NULL name. */
struct pj_option {
    const char *name;           /* [a-z][a-z0-9_]*, at most 48 characters; not on_error, which is pgprojector's */
    const char *value;          /* the default; not NULL */
    const char *help;           /* one line */
    const char *const *choices; /* what it may be, ending with NULL, all else being refused at the start; NULL: any */
};

/* --------------------------------------------------------------------------------------------------- the calls */

/* A changed row of one source, with the columns declared for it. A row that changes several times within a batch is
 * one change (of a transaction that comes in parts: one a part). A change of the primary key comes as two: one
 * without new_row, one without old_row. */
struct pj_change {
    int source;                     /* index into the module's sources */
    const struct pj_value *old_row; /* as before the batch (the part); NULL where there was none */
    const struct pj_value *new_row; /* as after it; NULL where there is none */
};

struct pj_call; /* the host's side of one call of apply(); valid during it only */

/*
 * What apply() may call. Values given are copied. What cannot be taken (a stream that there is not, a value of a wrong
 * length) makes the call of apply() count as refused, whatever it returns.
 */
struct pj_host {
    size_t size; /* of this struct, in bytes */

    /* Adds a row to stream number `stream`: one value for each of its columns, in their order. One whose routing key
     * (the first) is NULL concerns no row of the target and is passed over. */
    void (*emit)(struct pj_call *call, int stream, const struct pj_value *row);

    /* Has the target's rows of a key made equal to the definition. `count` is 1 (the routing key: all its rows) or the
     * number of the target's key columns (one row; the values in the order of `key`). Each must be a value of its
     * column's type (of one that is not listed: text); a key with a NULL in it is no row's, and passed over. */
    void (*dirty)(struct pj_call *call, const struct pj_value *key, int count);

    /* The same for every key; costs a pass over the whole definition. */
    void (*dirty_all)(struct pj_call *call);

    /* The value of an option, by its index in the module's options; "" where there is none of that index.
     * NUL-terminated, valid during the call. */
    const char *(*option)(struct pj_call *call, int index);

    /* Says why apply() is about to return non-zero; printf's format, cut after 511 bytes. No row values, please: the
     * text goes into logs. */
    void (*fail)(struct pj_call *call, const char *format, ...);
};

/*
 * Called once for each changed row of each source, when a batch (or a part) is about to be applied; not any more in a
 * batch once every key is dirty. Returns 0, or another number for a row it cannot digest: its routing keys (every key,
 * where `key` of the source is not among the columns declared) are recomputed from the definition instead; with
 * on_error = halt the daemon halts. It must not block, allocate what it does not free, or keep any pointer, and is
 * called by one thread at a time.
 */
typedef int (*pj_apply_fn)(const struct pj_host *host, struct pj_call *call, const struct pj_change *change);

/* The descriptor. Fields a module does not need are 0 or NULL. */
struct pj_module {
    uint32_t magic;       /* PJ_MODULE_MAGIC */
    uint32_t abi_version; /* PJ_ABI_VERSION */
    size_t size;          /* sizeof(struct pj_module) */

    const char *name;        /* [a-z][a-z0-9_]*, at most 48 characters; the file must be NAME.so */
    uint32_t version;        /* to be raised whenever what the target contains, or its shape, changes */
    const char *description; /* one line */

    const struct pj_source *sources;

    /* Indexes that the mirrors should carry, for queries or for the definition: what follows "CREATE INDEX ON", with
     * the table in braces: "{messages} (sender_id, created_at DESC)". Ends with NULL. */
    const char *const *mirror_indexes;

    /* The target. NULL, with all that follows, for a module that only asks for mirrors and indexes. Its columns and
     * their types are those of the definition's result. */
    const char *target;                /* the table's name, "name" (schema as for sources) or "schema.name" */
    const char *const *key;            /* its primary key's columns, the routing key first, 1 to 32; ends with NULL */
    const char *const *target_indexes; /* what follows "CREATE INDEX ON {target}": "(tenant_id)"; ends with NULL */
    int fillfactor;                    /* 10–100 percent; 0: 100. Around 70 keeps frequent updates cheap */

    /*
     * The definition: a SELECT over the mirrors that says what the target must contain, at every moment. {messages}
     * stands for a source, {option:x} for an option's literal. {keys(a, b)} stands for a condition that holds exactly
     * where the expressions, for the target's key columns in their order, are among the keys in question (always true
     * when all are); {keys(a)} with fewer expressions restricts by those key columns only. Put it wherever the planner
     * should profit from it; where it stands nowhere, the host filters the result. It must not depend on the session's
     * settings, the clock, or the order of rows that compare equal.
     */
    const char *definition;

    const struct pj_stream *streams; /* NULL where apply() only marks keys dirty */
    const struct pj_option *options;
    pj_apply_fn apply; /* NULL: each changed row marks its old and its new routing key dirty */
};

/* What a module exports. Called once when it is loaded; the descriptor and all it points to must stay as they are,
 * static and constant. `pgprojector module check` names everything that is wrong with it. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct pj_module *
pj_module(void);

#ifdef __cplusplus
}
#endif

#endif
