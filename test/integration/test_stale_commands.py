"""Commands that work on keys while modules are registered and exchanged: what they began with is looked at again under
the lock, and they go on with what is there now.
"""
import contextlib
import os
import shutil
import signal
import subprocess

import pytest

from harness.cluster import poll
from harness.daemon import PROGRAM, environment

MEMBERS = "user_conversation_membership"
SHOUT = "upper(c.title) AS title"
ONLY_SHOUTS = "ALTER TABLE titles ADD CONSTRAINT shouted CHECK (title = upper(title))"


class Held:
    """A command that is stopped while it waits for a lock (a table's, if nothing else is said); it goes on at the end of the
    `with`."""

    def __init__(self, pair, table, *words, lock=None):
        self.pair, self.words = pair, words
        self.lock = lock or f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"

    def waits(self):
        return self.pair.read_value("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted"
                                    " AND a.datname = current_database() AND a.application_name = %s",
                                    (f"pgprojector {self.words[0]}",))

    def __enter__(self):
        with contextlib.closing(self.pair.read_connection()) as conn, conn.cursor() as cursor:
            cursor.execute(f"BEGIN; {self.lock}")
            self.process = subprocess.Popen([PROGRAM, "-c", str(self.pair.config), *self.words], text=True,
                                            env=environment(self.pair.write_url, self.pair.read_url),
                                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            poll(self.waits, 20)
            self.process.send_signal(signal.SIGSTOP)
            cursor.execute("ROLLBACK")
        return self

    def __exit__(self, failed, *_):
        self.process.send_signal(signal.SIGCONT)
        if failed:
            self.process.kill()
        self.out, self.err = self.process.communicate(timeout=60)


def another_version(pair, modules):
    os.replace(modules.titles(2, SHOUT, place=False), modules.path / "titles.so")
    result = pair.command("module", "add", "titles")
    assert result.code == 0, result


def assert_begun_again(pair, held, code=0):
    assert held.process.returncode == code and "once more" in held.err, (held.process.returncode, held.out, held.err)
    assert pair.command("verify").code == 0


def test_a_rebuild_learns_of_who_is_chained_meanwhile(registering, modules):
    pair = registering
    pair.read_query(f"UPDATE {MEMBERS} SET unread_count = unread_count + 1000 WHERE ctid IN"
                    f" (SELECT ctid FROM {MEMBERS} ORDER BY user_id LIMIT 60)")
    with Held(pair, "pgprojector.dead_letter", "rebuild", MEMBERS) as rebuild:
        shutil.copy(PROGRAM.parent / "examples" / "user_unread.so", modules.path)
        result = pair.command("module", "add", "user_unread")
        assert result.code == 0, result
    assert_begun_again(pair, rebuild)


def test_a_resume_meets_another_version(registering, modules):
    pair = registering
    modules.titles()
    assert pair.command("module", "add", "titles").code == 0
    assert pair.command("pause", "titles").code == 0
    pair.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 'c' || i, 'group', now(), now()"
                     " FROM generate_series(1, 80) i")
    pair.catch_up()
    with Held(pair, "pgprojector.dirty_key", "resume", "titles") as resume:
        another_version(pair, modules)
    assert_begun_again(pair, resume)
    expected = pair.write_query("SELECT id::text, upper(title) FROM conversations ORDER BY id")
    assert pair.read_query("SELECT id::text, title FROM titles ORDER BY id") == expected


def test_a_verification_meets_another_version(registering, modules):
    pair = registering
    modules.titles()
    assert pair.command("module", "add", "titles").code == 0
    with Held(pair, "pgprojector.fence", "verify", "titles") as verify:
        another_version(pair, modules)
    assert_begun_again(pair, verify)


@pytest.fixture
def titles(registering, modules):
    """The module titles, deployed, and some conversations for it."""
    registering.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 'c' || i, 'group', now(), now()"
                            " FROM generate_series(1, 20) i")
    modules.titles()
    assert registering.command("module", "add", "titles").code == 0
    return registering


def test_a_retry_of_dead_letters_meets_another_version(titles, modules):
    """By the former version's definition it would write what the table must not contain any more."""
    pair = titles
    pair.read_query("ALTER TABLE titles ADD CONSTRAINT quiet CHECK (title <> 'aloud')")
    pair.write_query("INSERT INTO conversations VALUES (gen_random_uuid(), gen_random_uuid(), 'aloud', 'group', now(), now())")
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.dead_letter"), 20)
    pair.read_query("ALTER TABLE titles DROP CONSTRAINT quiet")
    with Held(pair, "pgprojector.dead_letter", "deadletters", "retry", "titles") as retry:
        another_version(pair, modules)
        pair.read_query(ONLY_SHOUTS)
    assert_begun_again(pair, retry)
    assert pair.read_value("SELECT count(*) FROM titles WHERE title = 'ALOUD'") == 1
    assert pair.read_value("SELECT count(*) FROM pgprojector.dead_letter") == 0


def test_a_repair_meets_another_version(titles, modules):
    """It has found what differs, and is held up when it asks for the fence at which it mends."""
    pair = titles
    pair.catch_up()
    pair.read_query("UPDATE titles SET title = 'forged' WHERE title = 'c7'; CREATE SEQUENCE fences;"
                    "CREATE FUNCTION second_fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                    " IF nextval('public.fences') = 2 THEN PERFORM pg_advisory_xact_lock(7); END IF; RETURN NEW; END $$;"
                    "CREATE TRIGGER held BEFORE INSERT ON pgprojector.fence FOR EACH ROW EXECUTE FUNCTION second_fence()")
    with Held(pair, None, "verify", "titles", "--repair", lock="SELECT pg_advisory_xact_lock(7)") as repair:
        another_version(pair, modules)
        pair.read_query(ONLY_SHOUTS)
    assert_begun_again(pair, repair)
    assert "not all could be mended" not in repair.err, repair.err
    assert pair.read_value("SELECT count(*) FROM titles WHERE title = 'C7'") == 1
