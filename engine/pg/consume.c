/*
 * See consume.h. A call of PQconsumeInput reads once, into the room that libpq has just then: 8 kB at least. A TLS record
 * holds up to 16, and is decrypted as a whole, so that its rest may be left within the TLS library: the socket is empty
 * then, poll() waits, and if that was the end of an answer, for ever. A PostgreSQL server sends what its buffer of 8 kB
 * holds, which always fits; later ones than 16 send what is larger than the buffer as it is (their pqcomm.c), and whatever
 * else speaks TLS in front of a server has records of its own.
 *
 * libpq keeps to itself whether something is left. Where it is built with OpenSSL, that library can be asked, which has come
 * with libpq: it is looked up in the process, for pgprojector has no other use for it. GSSAPI has packets of 16 kB, too,
 * and nobody to ask: there a second call takes the rest, which is never more than the room it has.
 */
#include "pg/consume.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

typedef int (*pending_fn)(const void *ssl);

static bool is_left(PGconn *conn)
{
    const void *ssl = PQsslStruct(conn, "OpenSSL");
    void *symbol = ssl ? dlsym(RTLD_DEFAULT, "SSL_pending") : NULL;
    if (!symbol)
        return false;
    pending_fn pending;
    memcpy(&pending, &symbol, sizeof pending); /* ISO C knows no cast from object to function */
    return pending(ssl) > 0;
}

int pj_consume(PGconn *conn)
{
    if (!PQconsumeInput(conn))
        return 0;
    if (PQgssEncInUse(conn))
        return PQconsumeInput(conn);
    while (is_left(conn))
        if (!PQconsumeInput(conn))
            return 0;
    return 1;
}
