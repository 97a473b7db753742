"""Scenes: one thing that an operator does, again and again under the random workload, with the daemon killed meanwhile in
a third of the cycles. After every cycle nothing differs and nothing is left over; a reader watches all the time.

A scene is a function of a Stage that does its thing once, decorated with `@scene`. `stage.unruly()` says whether this cycle
is one of those in which something is killed. `make soak SCENE=name CYCLES=n` runs it; test_scenes.py runs a slice of each.
"""
import json
import random
import signal
import time

from .cluster import poll
from .corruption import fill, sow
from .daemon import PROGRAM
from .history import keep, populate
from .schema import Flavour
from .watch import SPOILT, Watcher
from .workload import Workload

SCENES = {}


def scene(cycles, config="", without=(), watched=True, flavour=Flavour(odd=False)):
    """Registers a scene: the cycles of a full run; a configuration; operations left out; whether a reader watches."""
    def register(function):
        function.cycles, function.without, function.watched, function.flavour = cycles, without, watched, flavour
        function.configuration = lambda: config + flavour.config()
        SCENES[function.__name__] = function
        return function
    return register


class Stage:
    """What the cycles of one scene share."""

    def __init__(self, pair, workload, rng):
        self.pair, self.workload, self.rng = pair, workload, rng
        self.turn = 0        # the cycle's number, from 0
        self.spans = {}      # of a command: how long it took last, in seconds
        self.figures = {}    # what a scene counts

    def unruly(self):
        return self.rng.random() < 1 / 3

    def count(self, what, number=1):
        self.figures[what] = self.figures.get(what, 0) + number

    def progress(self, transactions=20):
        """Waits until the writers have committed so many more."""
        target = self.workload.committed + transactions
        poll(lambda: self.workload.committed >= target or self.workload.finished(), 60, "the writers' progress")
        self.workload.check()

    def moment(self, word):
        """Sleeps until some moment of what takes as long as `word` took last: a random moment, not a condition."""
        time.sleep(self.rng.random() * self.spans.get(word, 0.3))

    def kill_daemon(self):
        self.pair.daemon.kill()
        self.pair.daemon.start()
        self.count("daemons killed")

    def run(self, *words, code=0, kill_daemon=False):
        """A command that must end so; meanwhile the daemon is killed at a random moment, and started again."""
        began = time.monotonic()
        process = self.pair.launch(*words)
        if kill_daemon:
            self.moment(words[0])
            self.kill_daemon()
        out, err = process.communicate(timeout=60)
        self.spans[words[0]] = time.monotonic() - began
        assert process.returncode == code, f"cycle {self.turn}: {words}: exit {process.returncode}\n{out}\n{err}"
        return out

    def interrupted(self, *words):
        """The command is killed at a random moment."""
        process = self.pair.launch(*words)
        self.moment(words[0])
        process.kill()
        process.communicate(timeout=10)
        self.pair.await_end_of(words[0])
        self.count("commands killed")

    def requests_ended(self):
        """What a command has asked for goes on without it."""
        poll(lambda: not self.pair.read_query("SELECT id FROM pgprojector.request WHERE state IN ('waiting', 'running')"), 60,
             "the requests' end")

    def given_up(self, name, by_signal, kill_daemon):
        """A build that is given up at a random moment, from elsewhere or by Ctrl-C; it may have been done just before."""
        process = self.pair.launch("rebuild", name, "--fresh")
        self.moment("rebuild")
        if by_signal:
            process.send_signal(signal.SIGINT)
        else:
            asked = self.pair.launch("rebuild", name, "--cancel")
            out, err = asked.communicate(timeout=60)
            assert asked.returncode == 0 or "nothing is under way" in err, f"cycle {self.turn}: --cancel: {out}\n{err}"
        if kill_daemon:
            self.kill_daemon()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 or "cancelled" in err or "stopped" in err, \
            f"cycle {self.turn}: exit {process.returncode}\n{out}\n{err}"
        self.count("built in spite of it" if process.returncode == 0 else "undone")
        self.requests_ended()


# --------------------------------------------------------------------------------------------------------- the scenes

SPOIL = f"""
    UPDATE conversation_summary SET message_count = message_count + 7, title = 'forged' WHERE id IN {SPOILT}
        AND random() < 0.5;
    DELETE FROM conversation_summary WHERE id IN {SPOILT} AND random() < 0.2;
    UPDATE user_conversation_membership SET unread_count = unread_count - 1 WHERE conversation_id IN {SPOILT}
        AND random() < 0.5;
    DELETE FROM user_conversation_membership WHERE conversation_id IN {SPOILT} AND random() < 0.2;
    INSERT INTO user_conversation_membership (user_id, conversation_id, unread_count)
        SELECT gen_random_uuid(), id, 5 FROM {SPOILT} s (id) WHERE random() < 0.2
"""
TO_SPOIL = f"""
    INSERT INTO conversations (id, title) SELECT id, 'to be forged' FROM {SPOILT} s (id) ON CONFLICT DO NOTHING;
    INSERT INTO messages (id, conversation_id, created_at) SELECT ('0' || substr(md5(id::text || n), 2))::uuid, id, now()
        FROM {SPOILT} s (id), generate_series(1, 3) n ON CONFLICT DO NOTHING;
    INSERT INTO user_conversations SELECT md5('reader')::uuid, id, now(), '2024-05-05' FROM {SPOILT} s (id)
        ON CONFLICT DO NOTHING
"""


@scene(cycles=100)
def rebuild(stage):
    """Both targets, or one, of which some rows were forged; the command itself is killed now and then, and run again."""
    stage.pair.write_query(TO_SPOIL)
    stage.progress()
    # With the checkpoint row's lock, or the stream and this, which go through the rows in another order, could wait for each other.
    stage.pair.read_query("SELECT FROM pgprojector.checkpoint FOR UPDATE; " + SPOIL)
    names = stage.rng.choice((["--all"], ["conversation_summary"], ["user_conversation_membership"]))
    unruly = stage.unruly()
    if unruly and stage.rng.random() < 0.5:
        stage.interrupted("rebuild", *names)
    stage.run("rebuild", *names, kill_daemon=unruly)
    if names != ["--all"]:
        stage.run("rebuild", "--all")


@scene(cycles=100)
def pause(stage):
    """Pause, a while, resume: with the daemon killed before, during or after either."""
    name = stage.rng.choice(("conversation_summary", "user_conversation_membership"))
    unruly = stage.unruly()
    when = stage.rng.randrange(3) if unruly else None
    stage.run("pause", name, kill_daemon=when == 0)
    stage.progress(stage.rng.randrange(5, 60))
    if when == 1:
        stage.pair.daemon.kill()
        stage.count("daemons killed")
        stage.progress()
        stage.pair.daemon.start()
    if unruly and stage.rng.random() < 0.5:
        stage.interrupted("resume", name)
    stage.run("resume", name, kill_daemon=when == 2)


@scene(cycles=100, config="[pgprojector]\non_gap = resync\n")
def resync(stage):
    """The slot is lost, or nothing is; the command, or the daemon by itself, makes it good, killed on its way now and then."""
    daemon, unruly = stage.pair.daemon, stage.unruly()
    stage.progress()
    daemon.kill() if unruly or stage.rng.random() < 0.5 else daemon.stop()
    lost = stage.rng.random() < 0.7
    if lost:
        stage.pair.drop_slot()
        stage.progress(5)
    if lost and stage.rng.random() < 0.5:
        daemon.start()
        if unruly:
            stage.moment("resync")
            daemon.kill()
            stage.count("daemons killed")
            daemon.start()
    else:
        if unruly:
            stage.interrupted("resync")
        stage.run("resync")
        daemon.start()
    daemon.streaming(60)


@scene(cycles=100, watched=False, without=("truncate",))
def corruptions(stage, number=10):
    """Rows changed, missing and extra, sown into mirrors and targets: each is found, and then mended."""
    if stage.turn == 0:
        fill(stage.pair, 600, 300)
        stage.pair.catch_up()
    sown = sow(stage.pair, stage.rng, number)
    stage.count("sown", number)
    process = stage.pair.launch("verify", "--json", "--keys", "100000")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 5, f"exit {process.returncode}\n{out}\n{err}"
    missed = sown - found_keys(out)
    assert not missed, f"not found: {missed}"
    stage.count("found", number)
    stage.run("verify", "--repair")
    stage.count("repaired", number)


def found_keys(out):
    """(table, key's values) of every difference that `verify --json` names."""
    return {(table["name"].rpartition(".")[2], frozenset(str(value) for value in entry["key"].values()))
            for table in json.loads(out)["tables"] for entry in table.get("keys", [])}


@scene(cycles=200, flavour=Flavour())
def verifications(stage):
    """Everything is compared while everything is written, TRUNCATE too: no false alarm."""
    stage.run("verify", kill_daemon=False)
    stage.count("verified without an alarm")


@scene(cycles=100, config="[pgprojector]\nmodules = chat_mirrors, conversation_summary, user_conversation_membership, "
                          f"{PROGRAM.resolve().parent / 'examples' / 'user_unread.so'}\n")
def registration(stage):
    """A module removed, with or without its table, and added again; the daemon is killed during either now and then."""
    unruly = stage.unruly()
    when = stage.rng.randrange(2) if unruly else None
    drop = ["--drop-table"] if stage.rng.random() < 0.5 else []
    stage.run("module", "remove", "user_unread", *drop, kill_daemon=when == 0)
    stage.progress(stage.rng.randrange(5, 60))
    stage.run("module", "add", "user_unread", kill_daemon=when == 1)


@scene(cycles=100)
def fresh(stage):
    """A target built anew and swapped in: in one go, kept and rolled back, given up, or the command killed; the daemon is
    killed on the way now and then."""
    name = stage.rng.choice(("conversation_summary", "user_conversation_membership"))
    way = stage.rng.choice(("at once", "rolled back", "cancelled", "Ctrl-C", "killed"))
    unruly = stage.unruly()
    stage.count(way)
    if way == "at once":
        stage.run("rebuild", name, "--fresh", kill_daemon=unruly)
    elif way == "rolled back":
        when = stage.rng.randrange(2) if unruly else None
        stage.run("rebuild", name, "--fresh", "--keep-old", kill_daemon=when == 0)
        stage.progress(stage.rng.randrange(5, 60))
        stage.run("rebuild", name, "--rollback", kill_daemon=when == 1)
    elif way == "killed":
        stage.interrupted("rebuild", name, "--fresh")
        if unruly:
            stage.kill_daemon()
        stage.requests_ended()
    else:
        stage.given_up(name, by_signal=way == "Ctrl-C", kill_daemon=unruly)


# ---------------------------------------------------------------------------------------------------------- running it

def leftovers(pair):
    """What must not be there when nothing is under way."""
    counts = {
        "jobs": "SELECT count(*) FROM pgprojector.job",
        "requests": "SELECT count(*) FROM pgprojector.request WHERE state IN ('waiting', 'running')",
        "rows of tables beside": "SELECT count(*) FROM pgprojector.projection WHERE strpos(name, '.') > 0",
        "dirty rows": "SELECT count(*) FROM pgprojector.dirty_row",
        "mirrors that are joining": "SELECT count(*) FROM pgprojector.mirror WHERE state <> 'exact'",
        "dirty keys": "SELECT count(*) FROM pgprojector.dirty_key",
        "dead letters": "SELECT count(*) FROM pgprojector.dead_letter",
        "projections that are not live": "SELECT count(*) FROM pgprojector.projection WHERE state NOT IN ('live', 'retired')",
        "tables that nobody knows": "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relpersistence = 'p' AND relnamespace"
                                    " NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace,"
                                    " 'pgprojector'::regnamespace) AND oid NOT IN (SELECT to_regclass(quote_ident(schema_name)"
                                    " || '.' || quote_ident(table_name)) FROM pgprojector.mirror UNION ALL"
                                    " SELECT to_regclass(quote_ident(target_schema) || '.' || quote_ident(target_table))"
                                    " FROM pgprojector.projection)",
    }
    left = {what: pair.read_value(sql) for what, sql in counts.items()}
    left["slots too many"] = len(pair.slots()) - 1
    return {what: number for what, number in left.items() if number}


def finish_cycle(stage):
    """The writers stand; everything is right and tidy."""
    with stage.workload.pause():
        stage.pair.settle(stage.rng)
        stage.pair.assert_same(f"after cycle {stage.turn}", timeout=60)
        left = leftovers(stage.pair)
        assert not left, (f"left over after cycle {stage.turn}: {left}; so far {stage.figures};"
                          f" {stage.pair.read_query('SELECT * FROM pgprojector.request ORDER BY id DESC LIMIT 3')}")


def cycle_through(stage, act, cycles, progress):
    for stage.turn in range(cycles):
        began = time.monotonic()
        act(stage)
        finish_cycle(stage)
        if progress:
            progress(stage.turn, time.monotonic() - began)


def run_scene(pair, act, cycles, seed, writers=4, progress=None):
    """Runs a scene on a pair that is not started. Returns what it counted. AssertionError names the seed, and the history
    is kept."""
    populate(pair, seed)
    pair.start()
    pair.catch_up()
    workload = Workload(pair, seed, writers, None, pace=0.002, without=act.without)
    stage = Stage(pair, workload, random.Random(f"{seed}/{act.__name__}"))
    workload.start()
    try:
        if act.watched:
            with Watcher(pair) as watcher:
                cycle_through(stage, act, cycles, lambda *word: (watcher.check(), progress and progress(*word)))
            stage.figures["reads"] = watcher.turns
        else:
            cycle_through(stage, act, cycles, progress)
        workload.stop()
    except SystemExit:  # the time is over
        workload.stopping = True
        raise
    except BaseException as error:
        workload.stopping = True
        raise AssertionError(f"scene {act.__name__}, seed {seed}: {error}\n{keep(workload, pair)}") from error
    return stage.figures
