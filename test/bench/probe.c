/*
 * Measures the time from "COMMIT has returned" on the write database to "its effect is seen" on the read database.
 *
 *   probe WRITE_URL READ_URL RATE SECONDS SENDER [CONVERSATION]
 *
 * One thread writes a message from SENDER (a user id that nobody else writes as) RATE times a second, at fixed moments
 * that do not wait for anything to become visible, and notes when each commit returned. The other asks the read
 * database for the newest of these messages that the conversation's summary already counts; while one is outstanding it
 * asks again 100 us after each answer. So a figure can be one round trip and that pause too long, and never too short.
 * Both threads have a connection of their own. Prints one latency in microseconds a line.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FIRST_NUMBER 1000000000000LL
#define GIVE_UP_NS (60LL * 1000000000LL)

struct probe {
    PGconn *write, *read;
    const char *sender, *conversation;
    int64_t interval_ns;
    int count;
    int64_t *committed_ns; /* of each message: when its commit returned */
    atomic_int sent;       /* messages whose COMMIT may have been sent */
    atomic_int committed;  /* messages whose entry in committed_ns holds */
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_until(int64_t when)
{
    struct timespec at = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
    }
}

static void die(PGconn *connection, const char *what)
{
    fprintf(stderr, "probe: %s: %s", what, PQerrorMessage(connection));
    exit(1);
}

static PGconn *open_connection(const char *url, const char *name, const char *sql)
{
    PGconn *connection = PQconnectdb(url);
    if (PQstatus(connection) != CONNECTION_OK) {
        die(connection, "connect");
    }
    PGresult *result = PQprepare(connection, name, sql, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        die(connection, "prepare");
    }
    PQclear(result);
    return connection;
}

static void *write_messages(void *argument)
{
    struct probe *probe = argument;
    int64_t start = now_ns();
    for (int i = 0; i < probe->count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%lld", FIRST_NUMBER + i);
        sleep_until(start + i * probe->interval_ns);
        atomic_store(&probe->sent, i + 1);
        const char *values[] = {number, probe->sender, probe->conversation};
        PGresult *result = PQexecPrepared(probe->write, "send", 3, values, NULL, NULL, 0);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            die(probe->write, "write");
        }
        probe->committed_ns[i] = now_ns();
        atomic_store(&probe->committed, i + 1);
        PQclear(result);
    }
    return NULL;
}

/* The number of messages that are visible. */
static int visible(const struct probe *probe)
{
    const char *values[] = {probe->sender};
    PGresult *result = PQexecPrepared(probe->read, "newest", 1, values, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        die(probe->read, "read");
    }
    int count = PQntuples(result) == 0 ? 0 : (int)(atoll(PQgetvalue(result, 0, 0)) - FIRST_NUMBER) + 1;
    PQclear(result);
    return count;
}

static void watch(struct probe *probe)
{
    int seen = 0;
    int64_t last_progress = now_ns();
    while (seen < probe->count) {
        if (seen == atomic_load(&probe->sent)) {
            sleep_until(now_ns() + 50000);
            last_progress = now_ns();
            continue;
        }
        int count = visible(probe);
        int64_t now = now_ns();
        for (; seen < count; seen++) {
            while (atomic_load(&probe->committed) <= seen) { /* seen before the writer had its answer */
            }
            int64_t waited = now - probe->committed_ns[seen];
            printf("%.1f\n", waited > 0 ? (double)waited / 1000 : 0.0);
            last_progress = now;
        }
        if (now - last_progress > GIVE_UP_NS) {
            fprintf(stderr, "probe: message %d of %d did not become visible\n", seen + 1, probe->count);
            exit(1);
        }
        sleep_until(now_ns() + 100000);
    }
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: probe WRITE_URL READ_URL RATE SECONDS SENDER [CONVERSATION]\n");
        return 2;
    }
    double rate = atof(argv[3]);
    struct probe probe = {
        .sender = argv[5],
        .conversation = argc > 6 ? argv[6] : NULL,
        .interval_ns = (int64_t)(1e9 / rate),
        .count = (int)(rate * atof(argv[4])),
    };
    probe.committed_ns = calloc((size_t)probe.count, sizeof *probe.committed_ns);
    probe.write = open_connection(argv[1], "send", "CALL bench.probe($1::bigint, $2::uuid, $3::uuid)");
    probe.read = open_connection(argv[2], "newest",
                                 "SELECT m.sequence_number FROM public.messages m JOIN public.conversation_summary s"
                                 "  ON s.id = m.conversation_id AND s.last_sequence_number >= m.sequence_number"
                                 " WHERE m.sender_id = $1::uuid ORDER BY m.created_at DESC LIMIT 1");
    pthread_t writer;
    if (probe.committed_ns == NULL || pthread_create(&writer, NULL, write_messages, &probe) != 0) {
        return 1;
    }
    watch(&probe);
    pthread_join(writer, NULL);
    PQfinish(probe.write);
    PQfinish(probe.read);
    free(probe.committed_ns);
    return 0;
}
