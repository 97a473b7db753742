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
from harness.history import populate
from harness.modules import Modules
from harness.scenes import SEED

MEMBERS = "user_conversation_membership"


@pytest.fixture
def modules(tmp_path):
    return Modules(tmp_path)


@pytest.fixture
def registering(make_pair, modules):
    pair = make_pair(config=modules.config)
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    return pair


class Held:
    """A command that is stopped while it waits for a table of the catalog; it goes on at the end of the `with`."""

    def __init__(self, pair, table, *words):
        self.pair, self.table, self.words = pair, table, words

    def waits(self):
        return self.pair.read_value("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted"
                                    " AND l.relation = to_regclass(%s) AND a.application_name = %s",
                                    (self.table, f"pgprojector {self.words[0]}"))

    def __enter__(self):
        with contextlib.closing(self.pair.read_connection()) as conn, conn.cursor() as cursor:
            cursor.execute(f"BEGIN; LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE")
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
    os.replace(modules.titles(2, "upper(c.title) AS title", place=False), modules.path / "titles.so")
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
