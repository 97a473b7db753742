/*
 * Loading modules: the broken ones under test/modules, each refused by name; and the descriptor's check, field by
 * field, on copies of a good descriptor with one thing wrong.
 */
#include "host/module.h"

#include "reference/shell.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct pj_error error;

/* ---------------------------------------------------------------------------------------------------------- files */

static char directory[64];

static void make_directory(void)
{
    strcpy(directory, "/tmp/pjm-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static void remove_directory(void)
{
    shell("rm -rf %s", directory);
}

static const char *built(const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s.so", directory, name);
    shell("umask 022; cc -std=c17 -shared -fPIC -Iengine/include -o %s test/modules/%s.c", path, name);
    return path;
}

static void refused(const char *path, const char *words)
{
    struct pj_loaded_module loaded;
    cr_expect_eq(pj_module_load(&loaded, path, &error), PJ_ECONFIG, "%s", path);
    cr_expect_not_null(strstr(error.message, words), "%s", error.message);
    cr_expect_null(loaded.image);
}

TestSuite(module_file, .init = make_directory, .fini = remove_directory);

Test(module_file, a_good_one_is_loaded)
{
    struct pj_loaded_module loaded;
    cr_assert_eq(pj_module_load(&loaded, built("good"), &error), PJ_OK, "%s", error.message);
    cr_expect_str_eq(loaded.module->name, "good");
    cr_expect_eq(loaded.path[0], '/');
    pj_module_unload(&loaded);
    cr_expect_null(loaded.module);
    pj_module_unload(&loaded);
}

/* What became of the file does not concern what was loaded; what is there now is another module. */
Test(module_file, the_file_may_be_overwritten_and_two_versions_live_side_by_side)
{
    struct pj_loaded_module first, same, second;
    const char *path = built("good");
    cr_assert_eq(pj_module_load(&first, path, &error), PJ_OK, "%s", error.message);
    shell("sed 's/.version = 1/.version = 2/' test/modules/good.c > %s/good.c; umask 022; "
          "cc -std=c17 -shared -fPIC -Iengine/include -o %s/new %s/good.c; cp %s/new %s",
          directory, directory, directory, directory, path);
    pj_module_load_again(&same, first.image, path);
    cr_assert_eq(pj_module_load(&second, path, &error), PJ_OK, "%s", error.message);
    cr_expect_eq(first.module->version, 1);
    cr_expect_eq(same.module, first.module);
    cr_expect_eq(second.module->version, 2);
    cr_expect(pj_module_image_same(first.image, same.image));
    cr_expect(!pj_module_image_same(first.image, second.image));
    pj_module_unload(&first);
    cr_expect_eq(same.module->version, 1);
    pj_module_unload(&same);
    pj_module_unload(&second);
}

Test(module_file, a_descriptor_that_comes_again_is_not_taken_for_the_former_one)
{
    const char *path = built("good");
    for (int i = 0; i < 3; i++) {
        struct pj_loaded_module loaded;
        cr_assert_eq(pj_module_load(&loaded, path, &error), PJ_OK, "%s", error.message);
        cr_expect_eq(loaded.module->version, (uint32_t)(i + 1));
        pj_module_unload(&loaded);
        shell("sed 's/.version = 1/.version = %d/' test/modules/good.c > %s/good.c; umask 022; "
              "cc -std=c17 -shared -fPIC -Iengine/include -o %s %s/good.c",
              i + 2, directory, path, directory);
    }
}

Test(module_file, broken_ones_are_refused_by_name)
{
    refused(built("wrong_magic"), "magic is 0x12345678");
    refused(built("other_abi"), "ABI version 99, this pgprojector has version 2");
    refused(built("other_size"), "bytes, this pgprojector's has");
    refused(built("other_name"), "calls itself \"good\"");
    refused(built("no_symbol"), "no symbol pj_module");
    refused(built("undefined_symbol"), "function_of_the_host");
    refused(built("returns_null"), "returned NULL");
}

Test(module_file, what_is_no_shared_object_is_refused)
{
    char path[160];
    snprintf(path, sizeof path, "%s/text.so", directory);
    shell("umask 022; echo text > %s", path);
    refused(path, "text.so is no shared object");
    snprintf(path, sizeof path, "%s/missing.so", directory);
    refused(path, "No such file");
}

/* The dynamic linker says of it that there is no such file. */
Test(module_file, one_for_another_machine_is_called_that)
{
    const char *path = built("good");
    shell("printf '\\363\\000' | dd of=%s bs=1 seek=18 conv=notrunc 2>/dev/null", path);
    refused(path, "is built for another machine: RISC-V; this one is ");
    shell("printf '\\002\\001\\002' | dd of=%s bs=1 seek=4 conv=notrunc 2>/dev/null; "
          "printf '\\002' | dd of=%s bs=1 seek=5 conv=notrunc 2>/dev/null",
          path, path);
    refused(path, "big-endian; this one is ");
    shell("umask 022; cc -std=c17 -c -fPIC -Iengine/include -o %s test/modules/good.c", path);
    refused(path, "is an object file or a program");
}

Test(module_file, one_that_others_may_write_is_refused)
{
    const char *path = built("good");
    shell("chmod o+w %s", path);
    refused(path, "writable by others");
    shell("chmod o-w %s; chmod o+w %s", path, directory);
    refused(path, "writable by others");
}

/* Exchanges two files all the time. */
struct exchange {
    char one[160], other[160];
    atomic_bool ending;
};

static void *exchange_files(void *context)
{
    struct exchange *exchange = context;
    while (!atomic_load(&exchange->ending))
        renameat2(AT_FDCWD, exchange->one, AT_FDCWD, exchange->other, RENAME_EXCHANGE);
    return NULL;
}

/* What was looked at is what is loaded: one that others may write never is, though its like has the name, too. */
Test(module_file, one_that_is_exchanged_meanwhile_is_the_one_that_was_checked)
{
    struct exchange exchange;
    int loads = 0;
    pthread_t thread;
    snprintf(exchange.one, sizeof exchange.one, "%s", built("good"));
    snprintf(exchange.other, sizeof exchange.other, "%s/other", directory);
    shell("sed 's/.version = 1/.version = 2/' test/modules/good.c > %s/good.c; umask 022; "
          "cc -std=c17 -shared -fPIC -Iengine/include -o %s %s/good.c; chmod o+w %s",
          directory, exchange.other, directory, exchange.other);
    atomic_init(&exchange.ending, false);
    cr_assert_eq(pthread_create(&thread, NULL, exchange_files, &exchange), 0);
    for (int i = 0; i < 200; i++) {
        struct pj_loaded_module loaded;
        if (pj_module_load(&loaded, exchange.one, &error) != PJ_OK)
            continue;
        cr_expect_eq(loaded.module->version, 1, "the one that others may write");
        loads++;
        pj_module_unload(&loaded);
    }
    atomic_store(&exchange.ending, true);
    pthread_join(thread, NULL);
    cr_expect_gt(loads, 0);
}

/* Whether we are in a user namespace now in which only we have a number: what is root's is the overflow user's there. */
static bool alone_with_our_number(void)
{
    struct stat program;
    uid_t user = geteuid();
    if (stat("/proc/self/exe", &program) != 0 || program.st_uid != user || unshare(CLONE_NEWUSER) != 0)
        return false;
    FILE *map = fopen("/proc/self/uid_map", "w");
    return map && fprintf(map, "%u %u 1", user, user) > 0 && fclose(map) == 0;
}

/* In a process of its own, for one of several threads may not go there; 0: it is refused, 2: that cannot be tried. */
static int refused_to_one_who_is_not_root(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct pj_loaded_module loaded;
        if (!alone_with_our_number())
            _exit(2);
        bool right = pj_module_load(&loaded, "/bin/sh", &error) == PJ_ECONFIG;
        _exit(right && strstr(error.message, "belongs to user 65534") ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

Test(module_file, one_that_belongs_to_somebody_else_is_refused)
{
    int outcome = 0;
    if (geteuid() == 0) {
        const char *path = built("good");
        shell("chown 12345 %s", path);
        refused(path, "belongs to user 12345");
    } else {
        outcome = refused_to_one_who_is_not_root();
    }
    if (outcome == 2)
        cr_skip("only root can give a file away, and there are no user namespaces for others");
    cr_assert_eq(outcome, 0);
}

/* ----------------------------------------------------------------------------------------------------- descriptors */

static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    (void)host;
    (void)call;
    (void)change;
    return 0;
}

static const struct pj_column columns[] = {{"id", PJ_UUID}, {NULL, PJ_ANY}};
static const char *const key[] = {"id", NULL};

/* A good descriptor, taken apart so that each test can spoil one piece. */
static struct {
    struct pj_source sources[3];
    struct pj_stream_column columns[4];
    struct pj_stream streams[2];
    struct pj_option options[2];
    struct pj_module module;
} good;

static void make_good(void)
{
    memset(&good, 0, sizeof good);
    good.sources[0] = (struct pj_source){"things", "id", columns};
    good.columns[0] = (struct pj_stream_column){"id", PJ_UUID, PJ_KEY};
    good.columns[1] = (struct pj_stream_column){"n", PJ_INT8, PJ_SUM};
    good.columns[2] = (struct pj_stream_column){"at", PJ_DATE, PJ_MAX};
    good.streams[0] = (struct pj_stream){"s", good.columns, "UPDATE"};
    good.options[0] = (struct pj_option){"limit", "5", "a limit", NULL};
    good.module = (struct pj_module){.magic = PJ_MODULE_MAGIC,
                                     .abi_version = PJ_ABI_VERSION,
                                     .size = sizeof(struct pj_module),
                                     .name = "good",
                                     .version = 1,
                                     .sources = good.sources,
                                     .target = "t",
                                     .key = key,
                                     .definition = "SELECT",
                                     .streams = good.streams,
                                     .options = good.options,
                                     .apply = apply};
}

TestSuite(module_check, .init = make_good);

#define SPOILT(assignment, words)                                                                                      \
    do {                                                                                                               \
        make_good();                                                                                                   \
        assignment;                                                                                                    \
        cr_expect_eq(pj_module_check(&good.module, "/x/good.so", &error), PJ_ECONFIG, "%s", #assignment);              \
        cr_expect(strstr(error.message, words) && error.hint[0], "%s: %s", #assignment, error.message);                \
    } while (0)

Test(module_check, accepts_a_good_one)
{
    cr_expect_eq(pj_module_check(&good.module, "/x/good.so", &error), PJ_OK, "%s", error.message);
}

Test(module_check, names)
{
    SPOILT(good.module.name = "Good", "must match");
    SPOILT(good.module.name = NULL, "must match");
    SPOILT(good.module.name = "a234567890123456789012345678901234567890123456789", "must match");
    SPOILT(good.module.name = "better", "must be better.so");
}

/* 62 bytes */
#define LONG "sixty-two bytes; with one more a server still keeps all of it!"

Test(module_check, names_that_a_server_would_cut)
{
    static const struct pj_column cut[] = {{LONG "ab", PJ_ANY}, {NULL, PJ_ANY}};
    SPOILT(good.sources[0].table = LONG "ab", "more than 63 bytes");
    SPOILT(good.sources[0].key = LONG "ab", "more than 63 bytes");
    SPOILT(good.sources[0].columns = cut, "more than 63 bytes");
    SPOILT(good.columns[2].name = LONG "ab", "more than 63 bytes");
    make_good();
    good.module.target = "\"" LONG "\"\"\".\"" LONG ".\"";
    cr_expect_eq(pj_module_check(&good.module, "/x/good.so", &error), PJ_OK, "%s", error.message);
}

Test(module_check, sources)
{
    SPOILT(good.module.sources = NULL, "sources is empty");
    SPOILT(good.sources[0].table = NULL, "sources is empty");
    SPOILT(good.sources[1] = good.sources[0], "declared twice");
    SPOILT(good.sources[0].key = "", "key is an empty name");
    static const struct pj_column twice[] = {{"a", PJ_ANY}, {"a", PJ_ANY}, {NULL, PJ_ANY}};
    SPOILT(good.sources[0].columns = twice, "lists column a twice");
    static const struct pj_column odd[] = {{"a", (enum pj_type)77}, {NULL, PJ_ANY}};
    SPOILT(good.sources[0].columns = odd, "unknown type 77");
}

Test(module_check, target)
{
    static const char *const twice[] = {"a", "a", NULL};
    static const char *const none[] = {NULL};
    SPOILT(good.module.target = NULL, "target is NULL, but");
    SPOILT(good.module.key = NULL, "key has 0 columns");
    SPOILT(good.module.key = none, "key has 0 columns");
    SPOILT(good.module.key = twice, "lists column a twice");
    SPOILT(good.module.definition = NULL, "no definition");
    SPOILT(good.module.target = LONG "ab", "more than 63 bytes");
    SPOILT(good.module.target = "some." LONG "ab", "more than 63 bytes");
    static const char *const cut[] = {LONG "ab", NULL};
    SPOILT(good.module.key = cut, "more than 63 bytes");
    SPOILT(good.module.fillfactor = 5, "fillfactor is 5");
}

Test(module_check, streams)
{
    SPOILT(good.sources[0].columns = NULL; good.module.apply = NULL, "no apply() to feed them");
    SPOILT(good.streams[0].merge = "", "no merge");
    SPOILT(good.streams[0].columns = NULL, "no columns");
    SPOILT(good.columns[0].combine = PJ_LAST, "must be PJ_KEY");
    SPOILT(good.columns[2].combine = PJ_KEY, "before the others");
    SPOILT(good.columns[0].type = PJ_ANY, "not PJ_ANY");
    SPOILT(good.columns[1].type = PJ_INT4, "must be PJ_INT8");
    SPOILT(good.columns[2].type = PJ_TEXT, "integer, date or timestamp");
    SPOILT(good.columns[2].name = "n", "lists column n twice");
    SPOILT(good.columns[1].combine = (enum pj_combine)9, "unknown combine 9");
}

Test(module_check, options_and_indexes)
{
    static const char *const empty[] = {"", NULL};
    SPOILT(good.options[0].name = "Bad name", "must match");
    SPOILT(good.options[0].value = NULL, "no default");
    static const char *const others[] = {"4", "6", NULL};
    SPOILT(good.options[0].choices = others, "the default of option limit cannot be \"5\"; it may be one of: 4, 6");
    SPOILT(good.module.mirror_indexes = empty, "mirror_indexes: number 0 is empty");
}
