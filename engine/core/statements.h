/*
 * The applying session: its settings, and the statements it prepares for each mirror and projection. Set-based
 * throughout: every statement takes arrays, one per column, so that its cost follows the rows and not the round trips. Where
 * there is but one row, a second form of the statement takes its values (core/given.h).
 */
#ifndef PJ_CORE_STATEMENTS_H
#define PJ_CORE_STATEMENTS_H

#include "core/given.h"
#include "core/setup.h"
#include "pg/session.h"

/* X(enum, letter in the statement's name, parameters are …) */
#define PJ_MIRROR_STATEMENTS(X)                                                                                        \
    X(PJ_FETCH_OLD,                                                                                                    \
      'o') /* identity columns; returns ordinal (bigint, from 1) and all columns, as struct pj_value holds */          \
    X(PJ_INSERT_ROWS, 'i') /* all columns */                                                                           \
    X(PJ_UPDATE_ROWS, 'u') /* all columns; found by identity */                                                        \
    X(PJ_DELETE_ROWS, 'd') /* identity columns */                                                                      \
    X(PJ_EMPTY, 't')       /* none: deletes all */

#define PJ_STATEMENT_ENUM(name, letter) name = letter,
enum pj_mirror_statement { PJ_MIRROR_STATEMENTS(PJ_STATEMENT_ENUM) };
#undef PJ_STATEMENT_ENUM

/* Of a table that is joining only the last two are there, and note rows instead: the identities given; all. */

enum { PJ_STATEMENT_NAME = 32 };

/* The names under which statements are prepared. Each fills `name` and returns it. What writes rows is there twice: for
 * many, and for one. */
const char *pj_statement_mirror(enum pj_mirror_statement which, int table, enum pj_given given,
                                char name[PJ_STATEMENT_NAME]);
const char *pj_statement_merge(int projection, int stream, enum pj_given given, char name[PJ_STATEMENT_NAME]);
const char *pj_statement_recompute(int projection, bool full_key, char name[PJ_STATEMENT_NAME]);

enum pj_note { PJ_NOTE_ROUTING = 'n', PJ_NOTE_FULL = 'N', PJ_NOTE_ALL = 'a' };
const char *pj_statement_note(int projection, enum pj_note which, char name[PJ_STATEMENT_NAME]);
const char *pj_statement_park(int projection, char name[PJ_STATEMENT_NAME]);

/*
 *  "fence"       $1 lsn, $2 epoch, $3 version: locks the checkpoint row if it is as believed
 *  "checkpoint"  $1 expected lsn, $2 epoch, $3 version, $4 new lsn, $5 xid (NULL: keep the witness), $6 commit time (or NULL)
 *  note          the keys, one array a column; none for PJ_NOTE_ALL
 *  park          $1 routing keys, $2 SQLSTATE, $3 message, $4 lsn
 * LSNs are pg_lsn (8 bytes), the commit time is a timestamptz. Each must concern exactly one row.
 */
#define PJ_STATEMENT_FENCE "fence"
#define PJ_STATEMENT_CHECKPOINT "checkpoint"

/*
 * Pins the session's settings and prepares everything that it has not prepared already (core/prepared.h). That the server
 * refuses what is over a projection's table and definition is no error, but the projection's `refusal`: such a one must
 * not be live. Its notes can be had all the same.
 */
int pj_statements_prepare(struct pj_session *read, const struct pj_setup *setup, struct pj_error *error);
/* Deallocates what was so prepared; the session's settings are again those that it was opened with. */
int pj_statements_forget(struct pj_session *session, struct pj_error *error);

#endif
