/*
 * A merge of two cursors. The servers sort (by the digests' bytes, which two clusters cannot see differently, as they
 * can the order of texts), and a page of each side is all that is held here, whatever the tables' size.
 */
#include "base/mem.h"
#include "core/verify_internal.h"

#include <stdio.h>
#include <string.h>

enum { PAGE_ROWS = 5000 };

struct stream {
    struct pj_session *session;
    PGresult *page; /* NULL before the first one and after an error */
    int row;
    bool over;
};

static int open_stream(struct stream *stream, struct pj_session *session, const char *sql, struct pj_error *error)
{
    *stream = (struct stream){.session = session};
    return pj_session_execf(session, error, "DECLARE pgprojector_verify NO SCROLL CURSOR FOR %s", sql);
}

static void close_stream(struct stream *stream)
{
    struct pj_error ignored;
    PQclear(stream->page);
    if (stream->session)
        pj_session_exec(stream->session, "CLOSE pgprojector_verify", &ignored);
}

/* Makes the next row the current one, or the stream over. */
static int advance(struct stream *stream, struct pj_error *error)
{
    if (stream->page && ++stream->row < PQntuples(stream->page))
        return PJ_OK;
    bool last = stream->page && PQntuples(stream->page) < PAGE_ROWS;
    PQclear(stream->page);
    stream->page = NULL;
    stream->row = 0;
    stream->over = true;
    if (last)
        return PJ_OK;
    char sql[64];
    snprintf(sql, sizeof sql, "FETCH %d FROM pgprojector_verify", PAGE_ROWS);
    int code = pj_session_query(stream->session, &stream->page, sql, 0, NULL, error);
    stream->over = code != PJ_OK || PQntuples(stream->page) == 0;
    return code;
}

static const char *value(const struct stream *stream, int column)
{
    return PQgetvalue(stream->page, stream->row, column);
}

/* Below 0: the source's row comes first; above: the mirror's. */
static int order(const struct stream *source, const struct stream *mirror)
{
    if (source->over || mirror->over)
        return source->over - mirror->over;
    return strcmp(value(source, 0), value(mirror, 0));
}

static int walk(struct stream *source, struct stream *mirror, struct pj_verify_tally *tally, struct pj_error *error)
{
    int code = advance(source, error);
    if (code == PJ_OK)
        code = advance(mirror, error);
    while (code == PJ_OK && !(source->over && mirror->over)) {
        int first = order(source, mirror);
        if (first < 0)
            pj_verify_tally_add_row(tally, "missing", source->page, source->row, 2);
        else if (first > 0)
            pj_verify_tally_add_row(tally, "extra", mirror->page, mirror->row, 2);
        else if (strcmp(value(source, 1), value(mirror, 1)) != 0)
            pj_verify_tally_add_row(tally, "differs", source->page, source->row, 2);
        if (first <= 0)
            code = advance(source, error);
        if (code == PJ_OK && first >= 0)
            code = advance(mirror, error);
    }
    return code;
}

int pj_verify_merge(struct pj_session *write, const char *write_sql, struct pj_session *read, const char *read_sql,
                    struct pj_verify_tally *tally, struct pj_error *error)
{
    struct stream source = {0}, mirror = {0};
    int code = open_stream(&source, write, write_sql, error);
    if (code == PJ_OK)
        code = open_stream(&mirror, read, read_sql, error);
    if (code == PJ_OK)
        code = walk(&source, &mirror, tally, error);
    close_stream(&source);
    close_stream(&mirror);
    return code;
}
