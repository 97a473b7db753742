"""What cannot work is refused: named, with the remedy, the contract's exit code, within 20 s, and no slot left behind."""
import os
import shutil
import subprocess

import pytest

from harness.cluster import poll
from harness.daemon import ROOT, command
from harness.scenes import SEND
from harness.schema import Flavour

PLAIN = Flavour(odd=False)


def refused(pair, *words, codes=(2,), arguments=("run",), **more):
    """Runs it to its refusal, in which each word must stand. Gives back the result."""
    slots = set(pair.slots())
    result = pair.command(*arguments, timeout=20, **more)
    assert result.code in codes, result
    for word in words:
        assert word.lower() in result.err.lower(), f"{word!r} is not in the refusal: {result}"
    assert set(pair.slots()) <= slots, f"a slot was left behind: {result}"
    return result


def configured(pair, text):
    pair.config = pair.configure(text)
    return pair


# ---------------------------------------------------------------------------------- connection strings, settings

def test_no_urls():
    result = command(["run"], None, None)
    assert result.code == 2 and "WRITE_DATABASE_URL" in result.err and "postgresql://" in result.err


def test_one_url(pair):
    result = command(["run"], pair.write_url, None)
    assert result.code == 2 and "READ_DATABASE_URL" in result.err


@pytest.mark.parametrize("side", ["write", "read"])
@pytest.mark.parametrize("url", ["postgresql://[half", "nonsense", "postgresql:///x?no_such_option=1",
                                 "postgresql://u@localhost:abc/x", "postgresql://u@localhost/x?sslmode=required", "service=nope",
                                 "postgresql://u:canary@canary@localhost/x"])
def test_a_malformed_url(pair, side, url):
    setattr(pair, f"{side}_url", url)
    result = pair.command("run", timeout=20)
    assert result.code == 2 and f"{side} database" in result.err and "canary" not in result.err, result


def test_what_the_environment_says_of_formats_is_disregarded(pair):
    """libpq would have the server apply it after what the sessions ask for."""
    pair.start()
    result = pair.command("status", PGTZ="Europe/Berlin", PGDATESTYLE="SQL, DMY", PGGEQO="off")
    assert result.code in (0, 4) and "unreachable" not in result.out + result.err, result


@pytest.mark.parametrize("side", ["write", "read"])
def test_a_database_that_does_not_exist(pair, side):
    setattr(pair, f"{side}_url", getattr(pair, side).url("no_such_db"))
    result = pair.command("run", timeout=20)
    assert result.code == 2 and "no_such_db" in result.err and side in result.err, result


@pytest.mark.parametrize("side", ["write", "read"])
def test_a_role_that_does_not_exist(pair, side):
    setattr(pair, f"{side}_url", getattr(pair, side).url(pair.name, "nobody_here"))
    result = pair.command("run", timeout=20)
    assert result.code == 2 and "nobody_here" in result.err, result


@pytest.mark.parametrize("side", ["write", "read"])
@pytest.mark.parametrize("options,words", [("-crole=nobody_here", "nobody_here"), ("-cno_such_setting=1", "no_such_setting"),
                                           ("nonsense", "nonsense")])
def test_options_that_the_server_refuses(pair, side, options, words):
    url = getattr(pair, f"{side}_url")
    setattr(pair, f"{side}_url", f"{url}&options={options.replace('=', '%3D')}")
    result = pair.command("init", timeout=20)
    assert result.code == 2 and words in result.err and f"options in {side.upper()}_DATABASE_URL" in result.err, result
    setattr(pair, f"{side}_url", url)
    result = pair.command("init", timeout=20, PGOPTIONS=options)
    assert result.code == 2 and words in result.err, result


def test_options_hold_but_for_what_is_needed(pair, role):
    """Tables are made by the role that the options name; formats are ours."""
    pair.read_query(f"GRANT CREATE ON DATABASE {pair.name} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
    pair.read_url += f"&options=-crole%3D{role}%20-cdatestyle%3Dgerman%20-csearch_path%3Dpublic"
    pair.start()
    pair.write_query(SEND, (5,))
    pair.assert_same()
    assert pair.read_value("SELECT tableowner FROM pg_tables WHERE tablename = 'conversation_summary'") == role
    pair.daemon.stop()


@pytest.mark.parametrize("side", ["write", "read"])
def test_a_server_that_is_not_there(pair, scratch, side):
    """The commands that end by themselves say so at once, with 3; the daemon waits."""
    setattr(pair, f"{side}_url", f"postgresql://postgres@/x?host={scratch.path}")
    for verb in (["init"], ["wait", "--timeout", "1"]):
        result = pair.command(*verb, timeout=20)
        assert result.code == 3 and f"{side} database" in result.err, (verb, result)
    pair.daemon.start()
    poll(lambda: f"{side} database" in pair.daemon.tail(), what="the daemon's word on what it waits for")
    with pytest.raises(subprocess.TimeoutExpired):
        pair.daemon.process.wait(1)
    assert pair.daemon.stop() == 0


def test_it_waits_for_servers_that_come_up_later(own_clusters):
    from harness.pair import Pair  # the pair's databases must exist before its servers go down
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "late", PLAIN) as pair:
        write.stop()
        read.stop()
        pair.daemon.start()
        poll(lambda: "write database" in pair.daemon.tail(), what="its word on what it waits for")
        read.start()
        write.start()
        pair.daemon.streaming(45)
        pair.write_query(SEND, (3,))
        pair.assert_same()


def test_a_password_is_never_shown(pair):
    for url in ("write_url", "read_url"):
        setattr(pair, url, getattr(pair, url).replace("postgres@", "postgres:canary-7f3a@"))
    pair.start()
    outputs = [pair.daemon.tail(100000)]
    for verb in ("status", "doctor", "version", "verify"):
        result = pair.command(verb)
        outputs += [result.out, result.err]
    pair.write_url = pair.write_url.replace(pair.name, "no_such_db")
    result = pair.command("init")
    outputs += [result.out, result.err]
    assert not [output for output in outputs if "canary" in output]


@pytest.mark.parametrize("text,words", [
    ("[pgprojector]\nbatch_byte = 1MB\n", ["batch_byte", "batch_bytes", ":2"]),
    ("[pgprojectr]\njobs = 1\n", ["pgprojectr", ":2"]),
    ("[pgprojector]\njobs = many\n", ["jobs", "many", ":2"]),
    ("[pgprojector]\nslot = Not-A-Slot\n", ["slot", "Not-A-Slot"]),
    ("[pgprojector]\nmodules = no_such_module\n", ["no_such_module"]),
    ("[pgprojector]\nmodule_dir = /no/such/directory\n", ["/no/such/directory"]),
    ("[mirrors]\ntables = public.no_such_table\n", ["public.no_such_table", "[mirrors]"]),
    ("[mirrors]\ntables = \"half\n", ["[mirrors]", ":2"]),
    ("[module conversation_summary]\ntable.nessages = public.messages\n", ["nessages", "messages"]),
    (f"[module conversation_summary]\ntable.messages = public.{'x' * 64}\n", ["table.messages", "63 bytes"]),
    ("[module conversation_summary]\ntable.messages = public.no_such_table\n", ["no_such_table", "conversation_summary"]),
    ("[module conversation_summary]\ncolumn.messages.deleted_at = no_such_column\n", ["no_such_column", "messages"]),
    ("[module no_such_module]\nx = 1\n", ["no_such_module"]),
])
def test_a_configuration_that_cannot_work(pair, text, words):
    refused(configured(pair, text), *words)


def test_a_configuration_file_that_is_not_there(pair):
    pair.config = "/no/such/file.ini"
    refused(pair, "/no/such/file.ini")


@pytest.mark.parametrize("arguments", [[], ["rum"], ["run", "operand"], ["status", "--jsn"], ["run", "--json"],
                                       ["wait", "--lsn", "x"], ["-c"]])
def test_wrong_usage(arguments):
    result = command(arguments, "postgresql:///x", "postgresql:///x", timeout=20)
    assert result.code == 2 and result.err, result


# ----------------------------------------------------------------------------------------------------- the server

def other_write(make_pair, own_clusters, **settings):
    return make_pair(write=own_clusters(**settings))


def test_wal_level(make_pair, own_clusters):
    pair = other_write(make_pair, own_clusters, wal_level="replica")
    refused(pair, "wal_level", "replica", "ALTER SYSTEM SET wal_level = logical")


def test_output_plugin_libraries(make_pair, own_clusters):
    pair = other_write(make_pair, own_clusters, output_plugin_libraries=None)
    if not pair.write_query("SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'"):
        pytest.skip("this server does not have the setting")
    refused(pair, "output_plugin_libraries", "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json")


def test_a_plugin_that_is_not_installed(make_pair, own_clusters):
    pair = other_write(make_pair, own_clusters, dynamic_library_path="/no/such/directory")
    refused(pair, "wal2json", "postgresql-15-wal2json")


def test_no_free_slot(make_pair, own_clusters):
    pair = other_write(make_pair, own_clusters, max_replication_slots=1)
    pair.write_query("SELECT pg_create_logical_replication_slot('of_another', 'wal2json')")
    refused(pair, "max_replication_slots")


@pytest.mark.parametrize("side", ["write", "read"])
def test_an_encoding_that_is_not_utf8(pair, side):
    cluster, name = getattr(pair, side), f"{pair.name}_latin1"
    cluster.create_database(name, "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        cluster.query(name, PLAIN.ddl() if side == "write" else "SELECT")
        setattr(pair, f"{side}_url", cluster.url(name))
        refused(pair, "UTF8", "LATIN1")
        assert not cluster.query(name, "SELECT 1 FROM pg_replication_slots WHERE database = %s", (name,))
    finally:
        cluster.drop_database(name)


def test_an_open_transaction_in_the_way_of_the_slot(pair):
    """The wait is bounded, and the one in the way is named."""
    blocker = pair.write_connection()
    with blocker.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id(), pg_backend_pid()")
        pid = str(cursor.fetchone()[1])
    refused(pair, pid, "open transaction", arguments=("init", "--slot-wait", "500ms"), codes=(1, 3))
    blocker.close()
    assert pair.command("init").code == 0


def test_a_slot_of_somebody_else(pair):
    """Named by hand, and there already: it is not ours to use, and certainly not to drop."""
    pair.write_query("SELECT pg_create_logical_replication_slot(%s, 'wal2json')", (f"of_another_{pair.name}",))
    words = ("--slot", f"of_another_{pair.name}")
    refused(pair, f"of_another_{pair.name}", arguments=("init", *words), codes=(1, 2))
    assert pair.slots() == [f"of_another_{pair.name}"]
    assert pair.read_value("SELECT to_regclass('messages') IS NULL"), "something was made, to be refused then"
    found = pair.command("doctor", PGPROJECTOR_SLOT=words[1])
    assert found.code == 1 and f"fail  slot                     slot {words[1]} exists already" in found.out, found


def test_one_database_for_both(pair):
    """Nothing is made in it, and nothing is said of what it would take."""
    pair.read_url = pair.write_url + ("&" if "?" in pair.write_url else "?") + "connect_timeout=9"
    result = refused(pair, "the same one", pair.name, "READ_DATABASE_URL")
    assert "GRANT" not in result.err, result
    assert pair.write_value("SELECT to_regnamespace('pgprojector') IS NULL")
    found = pair.command("doctor")
    assert found.code == 1 and "the write and the read database are the same one" in found.out, found
    assert "read: " not in found.out, found


# ----------------------------------------------------------------------------------------------------- privileges

@pytest.fixture
def role(pair):
    """A role that may log in and nothing else, on both servers."""
    name = f"poor_{pair.name}"
    for cluster in (pair.write, pair.read):
        cluster.query("postgres", f"CREATE ROLE {name} LOGIN")
    yield name
    for cluster in (pair.write, pair.read):
        cluster.query(pair.name, f"DROP OWNED BY {name}")
        cluster.query("postgres", f"DROP ROLE {name}")


def test_no_replication_privilege(pair, role):
    pair.write_query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    pair.write_url = pair.write.url(pair.name, role)
    refused(pair, "REPLICATION", role, "ALTER ROLE")


def test_a_role_that_may_not_read_the_catalog(streaming, role):
    """That is no database to be waited for, and the remedy is named."""
    streaming.read_url = streaming.read.url(streaming.name, role)
    result = streaming.command("status")
    assert result.code == 1 and "permission denied" in result.out and "role that owns schema pgprojector" in result.out, result
    assert "unreachable" not in result.out
    found = streaming.command("status", "--json")
    assert found.code == 1 and found.json["read"]["reachable"] is True and "permission denied" in found.json["read"]["error"]
    result = streaming.command("deadletters", "list")
    assert result.code == 1 and "role that owns schema pgprojector" in result.err, result


def test_no_select_privilege(pair, role):
    pair.write.query("postgres", f"ALTER ROLE {role} REPLICATION")
    pair.write_query(f"GRANT SELECT ON users, conversations, user_conversations TO {role}")
    pair.write_url = pair.write.url(pair.name, role)
    refused(pair, "messages", "SELECT", "GRANT")


def test_no_privilege_on_the_read_database(pair, role):
    pair.read_url = pair.read.url(pair.name, role)
    refused(pair, "permission denied", codes=(1, 2))


def test_roles_with_what_they_need_and_no_more(pair, role):
    pair.write.query("postgres", f"ALTER ROLE {role} REPLICATION")
    pair.write_query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    pair.read_query(f"GRANT CREATE ON DATABASE {pair.name} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
    pair.write_url, pair.read_url = pair.write.url(pair.name, role), pair.read.url(pair.name, role)
    pair.start()
    pair.write_query(SEND, (3,))
    pair.assert_same()


# --------------------------------------------------------------------------------------------------------- tables

@pytest.mark.parametrize("ddl,words", [
    ("DROP TABLE messages", ["messages", "exist"]),
    ("ALTER TABLE messages DROP COLUMN deleted_at", ["messages", "deleted_at"]),
    ("ALTER TABLE messages ALTER sequence_number TYPE text", ["messages", "sequence_number"]),
    ("ALTER TABLE messages DROP CONSTRAINT messages_pkey", ["messages", "primary key"]),
    ("ALTER TABLE messages DROP CONSTRAINT messages_pkey, ADD PRIMARY KEY (id) DEFERRABLE", ["messages", "deferrable"]),
    ("ALTER TABLE messages REPLICA IDENTITY NOTHING", ["messages", "replica identity"]),
    ("ALTER TABLE messages SET UNLOGGED", ["messages", "unlogged"]),
    ("ALTER TABLE messages RENAME TO m; CREATE VIEW messages AS SELECT * FROM m", ["messages", "view"]),
    ("CREATE UNIQUE INDEX gone ON messages (id); ALTER TABLE messages REPLICA IDENTITY USING INDEX gone; DROP INDEX gone",
     ["messages", "replica identity"]),
], ids=lambda value: value[:60] if isinstance(value, str) else "")
def test_a_source_table_that_cannot_be_followed(pair, ddl, words):
    pair.write_query(ddl)
    refused(pair, *words, codes=(1, 2))


def test_remedies_can_be_pasted_whatever_the_names_are(pair, role):
    configured(pair, '[mirrors]\ntables = "Odd"."Things"\n')
    pair.read_query(f"""CREATE SCHEMA "Odd"; GRANT USAGE ON SCHEMA "Odd" TO {role};
        GRANT CREATE ON DATABASE {pair.name} TO {role}; GRANT CREATE ON SCHEMA public TO {role}""")
    pair.read_url = pair.read.url(pair.name, role)
    pair.write_query("""CREATE SCHEMA "Odd"; CREATE TABLE "Odd"."Things" (id int PRIMARY KEY DEFERRABLE)""")
    refused(pair, 'ALTER TABLE "Odd"."Things" DROP CONSTRAINT', codes=(1, 2))
    pair.write_query("""DROP TABLE "Odd"."Things"; CREATE TABLE "Odd"."Things" (id int PRIMARY KEY) PARTITION BY LIST (id);
        CREATE TABLE "Odd"."Thing 1" PARTITION OF "Odd"."Things" FOR VALUES IN (1); ALTER TABLE "Odd"."Thing 1" REPLICA IDENTITY FULL""")
    refused(pair, 'ALTER TABLE "Odd"."Thing 1" REPLICA IDENTITY', codes=(1, 2))
    pair.write_query("""ALTER TABLE "Odd"."Thing 1" REPLICA IDENTITY DEFAULT""")
    refused(pair, f'GRANT CREATE, USAGE ON SCHEMA "Odd" TO "{role}"', codes=(1, 2))


def test_several_faults_are_named_at_once(pair):
    pair.write_query("ALTER TABLE messages REPLICA IDENTITY NOTHING;"
                     " ALTER TABLE conversations DROP CONSTRAINT conversations_pkey")
    refused(pair, "messages", "conversations", codes=(1, 2))


def test_a_table_of_that_name_on_the_read_side(pair):
    """Somebody else's: it is not touched."""
    pair.read_query("CREATE TABLE messages (mine text); INSERT INTO messages VALUES ('mine')")
    pair.read_query("CREATE VIEW conversation_summary AS SELECT 1")
    said = '"public"."messages", "public"."conversation_summary" exist already and were not made by pgprojector'
    found = pair.command("doctor")
    assert found.code == 1 and said in found.out, found
    refused(pair, said, codes=(1, 2))
    assert pair.read_value("SELECT mine FROM messages") == "mine"
    assert pair.read_value("SELECT to_regclass('users') IS NULL"), "something was made, to be refused then"
    found = pair.command("doctor")
    assert found.code == 1 and said in found.out, f"with the catalog there: {found}"
    pair.read_query("DROP TABLE messages; DROP VIEW conversation_summary")
    assert "none is in the way" in pair.command("doctor").out


def test_a_type_of_an_extension_that_the_read_side_lacks(make_pair):
    pair = make_pair(config="[mirrors]\ntables = public.extended\n")
    if not pair.write_query("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'"):
        pytest.skip("hstore is not there")
    pair.write_query("CREATE EXTENSION hstore; CREATE TABLE extended (id int PRIMARY KEY, h hstore)")
    refused(pair, "hstore", codes=(1, 2))
    pair.read_query("CREATE EXTENSION hstore")
    assert pair.command("init").code == 0


# -------------------------------------------------------------------------------------------------------- modules

BAD_MODULE = """
#include "pgprojector.h"
static const struct pj_source sources[] = {{"users", "id", NULL}, {0}};
static const struct pj_module module = {.magic = %(magic)s, .abi_version = %(abi)s, .size = sizeof module,
    .name = "bad", .version = 1, .description = "bad", .sources = sources};
const struct pj_module *%(symbol)s(void);
__attribute__((visibility("default"))) const struct pj_module *%(symbol)s(void) { return &module; }
"""


@pytest.fixture
def build_module():
    """build_module(**replaced): the path of a module that is good but for what is replaced."""
    directory = ROOT / "build" / f"test-modules.{os.getpid()}"  # not in /tmp, where everybody may write

    def build(magic="PJ_MODULE_MAGIC", abi="PJ_ABI_VERSION", symbol="pj_module"):
        directory.mkdir(parents=True, exist_ok=True)
        source, module = directory / "bad.c", directory / "bad.so"
        source.write_text(BAD_MODULE % {"magic": magic, "abi": abi, "symbol": symbol})
        subprocess.run(["cc", "-shared", "-fPIC", f"-I{ROOT}/engine/include", "-o", module, source], check=True)
        return module
    yield build
    shutil.rmtree(directory, ignore_errors=True)


def test_a_good_module_loads(pair, build_module):
    module = build_module()
    assert configured(pair, f"[pgprojector]\nmodules = {module}\n").command("init").code == 0


def test_a_module_of_another_abi(pair, build_module):
    module = build_module(abi="99")
    refused(configured(pair, f"[pgprojector]\nmodules = {module}\n"), str(module), "ABI", "99", "1")


def test_a_shared_object_that_is_no_module(pair, build_module):
    refused(configured(pair, f"[pgprojector]\nmodules = {build_module(symbol='other')}\n"), "bad.so", "pj_module")


def test_a_module_with_another_magic(pair, build_module):
    refused(configured(pair, f"[pgprojector]\nmodules = {build_module(magic='7')}\n"), "bad.so", "magic")


def test_a_module_that_is_no_shared_object(pair, build_module):
    module = build_module()
    module.write_text("not an object")
    refused(configured(pair, f"[pgprojector]\nmodules = {module}\n"), "bad.so")


def test_a_module_that_others_may_write(pair, build_module):
    module = build_module()
    module.chmod(0o777)
    refused(configured(pair, f"[pgprojector]\nmodules = {module}\n"), "bad.so", "writ")
