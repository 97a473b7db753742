/* PQconsumeInput, for whoever then waits on the socket. */
#ifndef PJ_PG_CONSUME_H
#define PJ_PG_CONSUME_H

#include <libpq-fe.h>

/* Takes what has come; 0 where the connection is lost (PQerrorMessage). What is left is in the socket, where poll() sees
 * it. */
int pj_consume(PGconn *conn);

#endif
