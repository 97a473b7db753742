/* What a session needs no server for: texts, stops, and servers that are not there or do not answer. */
#include "pg/session.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "pg/conninfo.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------ texts */

static void assert_identifier(const char *name, const char *expected)
{
    struct pj_buf sql = {0};
    pj_quote_identifier(&sql, name);
    cr_assert_str_eq(pj_buf_text(&sql), expected);
    pj_buf_free(&sql);
}

Test(session, identifiers_are_quoted)
{
    assert_identifier("messages", "\"messages\"");
    assert_identifier("Mixed Case", "\"Mixed Case\"");
    assert_identifier("odd \"name\"", "\"odd \"\"name\"\"\"");
    assert_identifier("\"", "\"\"\"\"");
    assert_identifier("", "\"\"");
    assert_identifier("back\\slash 'n ?", "\"back\\slash 'n ?\"");
    assert_identifier("\xc3\xa9\xe2\x82\xac", "\"\xc3\xa9\xe2\x82\xac\"");
    assert_identifier("a\"; DROP TABLE x; --", "\"a\"\"; DROP TABLE x; --\"");
}

static void assert_literal(const char *text, const char *expected)
{
    struct pj_buf sql = {0};
    pj_quote_literal(&sql, text);
    cr_assert_str_eq(pj_buf_text(&sql), expected);
    pj_buf_free(&sql);
}

Test(session, literals_are_quoted)
{
    assert_literal("it", "'it'");
    assert_literal("it's", "'it''s'");
    assert_literal("''", "''''''");
    assert_literal("", "''");
    assert_literal("a\\b", " E'a\\\\b'");
    assert_literal("\\'", " E'\\\\'''");
    assert_literal("\"quoted\"\n\xc3\xa9", "'\"quoted\"\n\xc3\xa9'");
    assert_literal("'; DROP TABLE x; --", "'''; DROP TABLE x; --'");
}

Test(session, what_is_quoted_is_appended)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "SELECT ");
    pj_quote_literal(&sql, "x");
    pj_buf_puts(&sql, " AS ");
    pj_quote_identifier(&sql, "y");
    cr_assert_str_eq(pj_buf_text(&sql), "SELECT 'x' AS \"y\"");
    pj_buf_free(&sql);
}

static void assert_redacted(const char *url, const char *must_have)
{
    char *text = pj_conninfo_redacted(url);
    cr_assert_not(strstr(text, "canary"), "%s", text);
    cr_assert(strstr(text, must_have), "%s", text);
    pj_free(text);
}

Test(session, no_password_is_left_in_what_people_see)
{
    assert_redacted("postgresql://me:canary@db.example:5433/chat", "user=me");
    assert_redacted("postgresql://me:canary@db.example:5433/chat", "port=5433");
    assert_redacted("postgres://me:c%61nary@db.example/chat", "host=db.example");
    assert_redacted("host=db user=me password=canary dbname=chat", "dbname=chat");
    assert_redacted("host=db password='ca nary canary' dbname=chat", "dbname=chat");
    assert_redacted("postgresql://db/chat?user=me&password=canary&sslmode=require", "sslmode=require");
    assert_redacted("postgresql://db/chat?sslpassword=canary&sslkey=k", "sslkey=k");
}

/* libpq takes for the host, the port or the database what belongs to the password. */
Test(session, no_part_of_a_password_that_is_written_wrongly_is_shown)
{
    static const char *const urls[] = {"postgresql://app:geh@canary@host:5432/db", "postgres://app:geh/canary@host/db",
                                       "postgresql://app:1/canary@host/db", "postgresql://app@corp:canary@host/db",
                                       "postgresql://app:geh@canary@host"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        const char *remedy, *fault = pj_conninfo_fault(urls[i], &remedy);
        char *text = pj_conninfo_redacted(urls[i]);
        cr_assert_str_eq(text, "");
        cr_assert(fault && strstr(remedy, "%40"), "%s", urls[i]);
        pj_free(text);
    }
    char *text = pj_conninfo_redacted("postgresql://app:canary/db");
    cr_assert_str_eq(text, "dbname=db host=app");
    pj_free(text);
}

Test(session, an_at_sign_may_stand_where_it_means_itself)
{
    static const char *const urls[] = {
        "postgresql://app:a%40b@host:5432/db", "host=db user=me@corp password=a@b@c",
        "postgresql://u@/db?host=@socket",     "postgresql://u:p@h/db?application_name=a@",
        "postgresql:///db?user=a@b",           "postgresql://u@h/d@b"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        const char *remedy;
        cr_assert_null(pj_conninfo_fault(urls[i], &remedy), "%s", urls[i]);
    }
}

Test(session, what_libpq_does_not_understand_is_not_shown_at_all)
{
    static const char *const urls[] = {"postgresql://me:canary@[::1/chat", "host=db nonsense=canary", "canary", ""};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        char *text = pj_conninfo_redacted(urls[i]);
        cr_assert_str_eq(text, "");
        pj_free(text);
    }
}

/* ------------------------------------------------------------------------------------------------------------ stops */

enum { SOON_US = 2000 * 1000, LONG_MS = 20000 };

Test(session, a_stop_is_asked_once_and_stays_asked)
{
    struct pj_stop stop;
    struct pj_error error;
    cr_assert_eq(pj_stop_init(&stop, &error), PJ_OK);
    cr_assert_not(pj_stop_asked(&stop));
    cr_assert_eq(pj_stop_sleep(&stop, 1, &error), PJ_OK);
    pj_stop_ask(&stop);
    pj_stop_ask(&stop);
    for (int i = 0; i < 3; i++) {
        cr_assert(pj_stop_asked(&stop));
        cr_assert_eq(pj_stop_sleep(&stop, LONG_MS, &error), PJ_ESTOPPED);
    }
    pj_stop_close(&stop);
    pj_stop_close(&stop);
    cr_assert_eq(stop.fd, -1);
}

Test(session, without_a_stop_nothing_is_asked)
{
    struct pj_stop never = {.fd = -1};
    struct pj_error error;
    cr_assert_not(pj_stop_asked(NULL));
    cr_assert_not(pj_stop_asked(&never));
    uint64_t before = pj_clock_monotonic_us();
    cr_assert_eq(pj_stop_sleep(NULL, 20, &error), PJ_OK);
    cr_assert_geq(pj_clock_monotonic_us() - before, 20000);
}

static void *ask(void *stop)
{
    usleep(20000);
    pj_stop_ask(stop);
    return NULL;
}

Test(session, a_stop_ends_another_threads_sleep, .timeout = 30)
{
    struct pj_stop stop;
    struct pj_error error;
    pthread_t thread;
    cr_assert_eq(pj_stop_init(&stop, &error), PJ_OK);
    cr_assert_eq(pthread_create(&thread, NULL, ask, &stop), 0);
    uint64_t before = pj_clock_monotonic_us();
    cr_assert_eq(pj_stop_sleep(&stop, LONG_MS, &error), PJ_ESTOPPED);
    cr_assert_lt(pj_clock_monotonic_us() - before, SOON_US);
    pthread_join(thread, NULL);
    pj_stop_close(&stop);
}

/* -------------------------------------------------------------------------------------------------------- no server */

static int try_to_open(const char *url, const struct pj_stop *stop, struct pj_error *error)
{
    struct pj_session_options options = {.side = PJ_READ, .url = url, .connect_timeout_s = 1, .stop = stop};
    struct pj_session *session;
    int code = pj_session_open(&session, &options, error);
    cr_assert_neq(code, PJ_OK);
    cr_assert_eq(code, error->code);
    cr_assert_null(session);
    return code;
}

Test(session, a_server_that_is_not_there_may_come_yet, .timeout = 30)
{
    static const char *const urls[] = {"host=/nonexistent user=u dbname=d", "postgresql://u@127.0.0.1:1/d"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct pj_error error;
        cr_assert_eq(try_to_open(urls[i], NULL, &error), PJ_EUNREACHABLE, "%s", error.message);
        cr_assert(error.retryable);
        cr_assert(strstr(error.message, "read database"), "%s", error.message);
        cr_assert(strstr(error.hint, "READ_DATABASE_URL"), "%s", error.hint);
        cr_assert_not(strchr(error.message, '\n'));
    }
}

Test(session, a_wrong_url_is_refused_without_being_quoted)
{
    static const char *const urls[] = {"postgresql://me:canary@[::1/chat", "host=db nonsense=canary", "canary",
                                       "host=db password='canary"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct pj_error error;
        cr_assert_eq(try_to_open(urls[i], NULL, &error), PJ_ECONFIG);
        cr_assert_not(error.retryable);
        cr_assert_not(strstr(error.message, "canary") || strstr(error.hint, "canary"), "%s %s", error.message,
                      error.hint);
        cr_assert(strstr(error.message, "READ_DATABASE_URL"), "%s", error.message);
    }
}

/* No server that comes up mends them; what is quoted could be part of a password. */
Test(session, a_string_that_libpq_cannot_use_is_the_configurations_fault)
{
    static const struct {
        const char *url, *words;
    } refusals[] = {
        {"postgresql://u@localhost:canary/d", "\"port\""},
        {"postgresql://u@localhost:99999/d", "port number"},
        {"postgresql://u@localhost/d?sslmode=canary", "sslmode"},
        {"postgresql://u@localhost/d?target_session_attrs=canary", "target_session_attrs"},
        {"service=nope", "\"nope\""},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct pj_error error;
        cr_assert_eq(try_to_open(refusals[i].url, NULL, &error), PJ_ECONFIG, "%s: %s", refusals[i].url, error.message);
        cr_assert_not(error.retryable);
        cr_assert(strstr(error.message, refusals[i].words), "%s", error.message);
        cr_assert_not(strstr(error.message, "canary"), "%s", error.message);
        cr_assert(strstr(error.hint, "READ_DATABASE_URL"), "%s", error.hint);
    }
}

Test(session, a_name_that_cannot_be_looked_up_may_come_yet)
{
    struct pj_error error;
    cr_assert_eq(try_to_open("postgresql://u@nobody.invalid/d", NULL, &error), PJ_EUNREACHABLE, "%s", error.message);
    cr_assert_eq(try_to_open("host=nobody.invalid,/nonexistent port=1,99999", NULL, &error), PJ_EUNREACHABLE);
}

/* Something that listens on a socket of its own and never says a word. */
struct silent {
    char directory[64], path[108], url[128];
    int fd;
};

static struct silent silent_server(void)
{
    struct silent server = {.directory = "/tmp/test_session.XXXXXX"};
    cr_assert_not_null(mkdtemp(server.directory));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(server.path, sizeof server.path, "%s/.s.PGSQL.5432", server.directory);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server.path);
    snprintf(server.url, sizeof server.url, "host=%s port=5432 user=u dbname=d password=canary", server.directory);
    server.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(server.fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(server.fd, 5), 0);
    return server;
}

static void end_silent_server(struct silent *server)
{
    close(server->fd);
    unlink(server->path);
    rmdir(server->directory);
}

Test(session, a_server_that_does_not_answer_is_given_up, .timeout = 30)
{
    struct silent server = silent_server();
    struct pj_error error;
    uint64_t before = pj_clock_monotonic_us();
    cr_assert_eq(try_to_open(server.url, NULL, &error), PJ_EUNREACHABLE, "%s", error.message);
    cr_assert_geq(pj_clock_monotonic_us() - before, 1000 * 1000);
    cr_assert_lt(pj_clock_monotonic_us() - before, 5 * 1000 * 1000);
    cr_assert(error.retryable);
    cr_assert_not(strstr(error.message, "canary"));
    end_silent_server(&server);
}

Test(session, a_stop_ends_the_wait_for_an_answer, .timeout = 30)
{
    struct silent server = silent_server();
    struct pj_stop stop;
    struct pj_error error;
    pthread_t thread;
    cr_assert_eq(pj_stop_init(&stop, &error), PJ_OK);
    cr_assert_eq(pthread_create(&thread, NULL, ask, &stop), 0);
    cr_assert_eq(try_to_open(server.url, &stop, &error), PJ_ESTOPPED, "%s", error.message);
    pthread_join(thread, NULL);
    pj_stop_close(&stop);
    end_silent_server(&server);
}

/* Takes what comes, says `answer` to the first connection, and hangs up. */
struct talker {
    struct silent server;
    const char *answer;
    size_t length;
};

static void *talk(void *context)
{
    struct talker *talker = context;
    char request[1024];
    int fd = accept(talker->server.fd, NULL, NULL);
    cr_assert_geq(fd, 0);
    ssize_t got = read(fd, request, sizeof request), put = write(fd, talker->answer, talker->length);
    cr_assert(got > 0 && put == (ssize_t)talker->length);
    close(fd);
    return NULL;
}

static int open_and_be_told(const char *answer, size_t length, struct pj_error *error)
{
    struct talker talker = {.server = silent_server(), .answer = answer, .length = length};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, talk, &talker), 0);
    int code = try_to_open(talker.server.url, NULL, error);
    pthread_join(thread, NULL);
    end_silent_server(&talker.server);
    return code;
}

/* An ErrorResponse as a server sends it. */
static int open_and_be_refused(const char *sqlstate, const char *text, struct pj_error *error)
{
    char answer[256] = "E";
    int length = 5 +
                 snprintf(answer + 5, sizeof answer - 5, "SFATAL%cC%s%cM%s%cFpostinit.c%cL1%cRInitPostgres%c", 0,
                          sqlstate, 0, text, 0, 0, 0, 0) +
                 1;
    answer[1] = answer[2] = answer[3] = 0;
    answer[4] = (char)(length - 1);
    return open_and_be_told(answer, (size_t)length, error);
}

Test(session, a_server_that_starts_up_or_is_full_may_take_us_later, .timeout = 30)
{
    struct pj_error error;
    cr_assert_eq(open_and_be_refused("57P03", "the database system is starting up", &error), PJ_EUNREACHABLE);
    cr_assert(error.retryable);
    cr_assert(strstr(error.message, "starting up"), "%s", error.message);
    cr_assert_eq(open_and_be_refused("53300", "sorry, too many clients already", &error), PJ_EUNREACHABLE);
    cr_assert(error.retryable);
}

Test(session, what_a_retry_does_not_mend_is_a_matter_of_configuration, .timeout = 30)
{
    static const char *const refusals[][2] = {
        {"28P01", "password authentication failed for user \"u\""},
        {"28P01", "Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen"},
        {"28000", "kein pg_hba.conf-Eintrag für Host »[local]«, Benutzer »u«, Datenbank »d«, keine Verschlüsselung"},
        {"28000", "Rolle »u« existiert nicht"},
        {"3D000", "Datenbank »d« existiert nicht"},
        {"42501", "nur Superuser und Replikationsrollen können WAL-Sender starten"},
        {"08P01", "SASL authentication failed"}};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct pj_error error;
        cr_assert_eq(open_and_be_refused(refusals[i][0], refusals[i][1], &error), PJ_ECONFIG, "%s", error.message);
        cr_assert_not(error.retryable);
        cr_assert_str_eq(error.sqlstate, refusals[i][0]);
        cr_assert(strstr(error.message, refusals[i][1]) && !strstr(error.message, refusals[i][0]), "%s", error.message);
        cr_assert(strstr(error.hint, "READ_DATABASE_URL"), "%s", error.hint);
        cr_assert_not(strstr(error.message, "canary") || strstr(error.hint, "canary"), "%s", error.message);
    }
}

Test(session, the_words_of_a_refusal_decide_nothing, .timeout = 30)
{
    struct pj_error error;
    cr_assert_eq(open_and_be_refused("57P03", "das Datenbanksystem fährt herunter", &error), PJ_EUNREACHABLE);
    cr_assert(error.retryable);
    cr_assert_str_eq(error.sqlstate, "57P03");
    cr_assert(strstr(error.message, "FATAL:  das Datenbanksystem"), "%s", error.message);
    cr_assert_eq(open_and_be_refused("53100", "»x« existiert nicht: authentication failed, does not exist", &error),
                 PJ_EUNREACHABLE);
    cr_assert(error.retryable && strstr(error.hint, "make room"), "%s", error.hint);
}

Test(session, a_server_that_hangs_up_may_do_better_next_time, .timeout = 30)
{
    struct pj_error error;
    cr_assert_eq(open_and_be_told("", 0, &error), PJ_EUNREACHABLE, "%s", error.message);
    cr_assert(error.retryable);
}

/* ----------------------------------------------------------------------------------------------------------- errors */

Test(session, a_lost_connection_is_worth_retrying)
{
    struct pj_error error;
    pj_error_clear(&error);
    cr_assert_eq(pj_pg_error(&error, NULL, NULL, PJ_WRITE), PJ_EUNREACHABLE);
    cr_assert(error.retryable);
    cr_assert(strstr(error.message, "write database"), "%s", error.message);
}

Test(session, closing_nothing_is_fine)
{
    pj_session_close(NULL);
}
