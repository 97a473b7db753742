/* What the two halves of the writer share: writer.c, the cursor over items; writer_send.c, the statements of one. */
#ifndef PJ_CORE_WRITER_INTERNAL_H
#define PJ_CORE_WRITER_INTERNAL_H

#include "base/buf.h"
#include "core/writer.h"

enum phase { DELETES, UPDATES, INSERTS, MERGES, RECOMPUTE, ANSWERS, END };

/* Whose rows a statement touches: the context of its answer. */
struct pj_touching {
    struct pj_writer *writer;
    const struct pj_projection *projection;
};

struct pj_writer {
    struct pj_setup *setup;
    struct pj_batch *batch;
    bool last;
    enum phase phase;
    int item;                /* table or projection */
    int stream;              /* MERGES: stream; RECOMPUTE: 0 routing keys, 1 full keys, 2 all */
    size_t at;               /* row within the item */
    struct pj_buf *arrays;   /* one for each parameter; reused */
    struct pj_value *params; /* these, and one more */
    int width;               /* how many of them */
    bool fresh;              /* the next batch begins a transaction */

    /* chains */
    int level, levels;            /* MERGES, RECOMPUTE: of the projections at hand; the highest */
    struct pj_touching *touching; /* one for each projection */
    int unanswered;               /* statements whose answers tell what they touched */
    bool waiting;                 /* for these */
    void (*answered)(void *context);
    void *context;
};

/* writer.c: the context of a projection's next statement, if anybody wants to know what it touches; else NULL. */
struct pj_touching *pj_writer_touching(struct pj_writer *writer, int projection);
int pj_writer_on_touched(void *context, const PGresult *result, struct pj_error *error);
int pj_writer_on_all_touched(void *context, const PGresult *result, struct pj_error *error);

/* writer_send.c: each sends the next statement from the cursor on; false when the item has none left. */
bool pj_writer_send_deletes(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows);
bool pj_writer_send_updates(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows);
bool pj_writer_send_inserts(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows);
bool pj_writer_send_merge(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_projection *projection);
bool pj_writer_send_recompute(struct pj_writer *writer, const struct pj_sink *sink,
                              const struct pj_projection *projection);
/* Of a projection that is not live: its dirty keys, to be noted. */
bool pj_writer_send_notes(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_projection *projection);

#endif
