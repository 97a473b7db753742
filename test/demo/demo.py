"""make demo: two private PostgreSQL clusters, a chat's worth of writers, the daemon between them, and a view of it all.

Ends by itself after DEMO_SECONDS (30; 0: at Ctrl-C) with a check: every mirror and every projection against its definition
evaluated on the write database at the same LSN, and `pgprojector verify`. Exit code 0 only if nothing differs. Takes no
port, needs no privilege, and removes what it made, however it ends.
"""
import collections
import os
import pathlib
import random
import signal
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "bench"))
from harness.cluster import Scratch  # noqa: E402
from harness.daemon import Daemon, command  # noqa: E402

from definitions import MIRRORS, TARGETS, differing, expected  # noqa: E402
from load import Stunts, World, Writer, fill  # noqa: E402
from view import make_view  # noqa: E402

SETTINGS = dict(odd_output=False, fsync="on", full_page_writes="on", shared_buffers="128MB", timezone="UTC")
DATABASE = "chat"
WRITERS = 4
PAUSE = 0.006

FIGURES = """
    SELECT pgprojector.applied_lsn()::text, (SELECT state FROM pgprojector.daemon),
           (SELECT count(*) FROM public.conversation_summary), (SELECT sum(message_count)::bigint FROM public.conversation_summary),
           count(*), sum(unread_count)::bigint FROM public.user_conversation_membership"""
BUSIEST = """
    SELECT s.title, s.message_count, s.last_sequence_number, count(m.user_id), coalesce(sum(m.unread_count), 0)::bigint
    FROM (SELECT * FROM public.conversation_summary ORDER BY message_count DESC, id LIMIT 6) s
    LEFT JOIN public.user_conversation_membership m ON m.conversation_id = s.id
    GROUP BY s.id, s.title, s.message_count, s.last_sequence_number ORDER BY s.message_count DESC, s.id"""


class Ended(Exception):
    """SIGTERM."""


class Probe(threading.Thread):
    """Ten times a second: commit on the write database, wait for it on the read database, note the milliseconds."""

    def __init__(self, pair):
        super().__init__(daemon=True)
        self.pair = pair
        self.latencies = collections.deque(maxlen=100)
        self.stopping = threading.Event()

    def run(self):
        write, read = self.pair.write.connect(DATABASE), self.pair.read.connect(DATABASE)
        with write.cursor() as w, read.cursor() as r:
            while not self.stopping.wait(0.1):
                w.execute("UPDATE conversations SET updated_at = clock_timestamp() WHERE id = %s", (self.pair.world.rooms[-1],))
                committed = time.monotonic()
                w.execute("SELECT pg_current_wal_insert_lsn()")
                r.execute("SELECT pgprojector.wait_for(%s, '10 seconds')", w.fetchone())
                if r.fetchone()[0]:
                    self.latencies.append((time.monotonic() - committed) * 1000)
        write.close()
        read.close()


class Demo:
    name = "demo"

    def __init__(self, seconds):
        self.seconds = seconds
        self.seed = int(os.environ.get("DEMO_SEED", random.randrange(1_000_000)))
        self.scratch = Scratch()
        self.write = self.scratch.cluster("write", **SETTINGS)
        self.read = self.scratch.cluster("read", **SETTINGS)
        self.write_url, self.read_url = self.write.url(DATABASE), self.read.url(DATABASE)
        self.daemon = Daemon(self)
        self.world = World(self.seed)
        self.threads = []
        self.rates = collections.deque(maxlen=20)

    # What the harness's Daemon asks for.
    def read_query(self, sql, params=None):
        return self.read.query(DATABASE, sql, params)

    def read_value(self, sql, params=None):
        return self.read.value(DATABASE, sql, params)

    def start(self):
        print(f"two private clusters in {self.scratch.path}, seed {self.seed}", flush=True)
        for cluster in (self.write, self.read):
            cluster.start()
            cluster.create_database(DATABASE)
        conn = self.write.connect(DATABASE)
        with conn.cursor() as cursor:
            cursor.execute((HERE.parent / "bench" / "chat.sql").read_text())
        fill(conn, self.world)
        conn.close()
        print("pgprojector run: first start", flush=True)
        begun = time.monotonic()
        state, message, hint = self.daemon.start().await_state("streaming", "halted", timeout=60)
        if state == "halted":
            raise RuntimeError(f"the daemon has halted: {message}\n{hint}")
        print(f"streaming after {time.monotonic() - begun:.1f} s; {WRITERS + 1} writers start", flush=True)
        self.world.started = time.monotonic()
        connect = lambda: self.write.connect(DATABASE)  # noqa: E731
        writers = [Writer(connect, self.world, f"{self.seed}/{n}", PAUSE) for n in range(WRITERS)]
        writers.append(Stunts(connect, self.world, f"{self.seed}/stunts", PAUSE * 4, self.seconds or 60))
        self.threads = [*writers, Probe(self)]
        for thread in self.threads:
            thread.start()

    def watch(self):
        view = make_view()
        try:
            while not self.seconds or time.monotonic() - self.world.started < self.seconds:
                self.complain_of_failures()
                view.show(self.state())
                left = self.seconds - (time.monotonic() - self.world.started) if self.seconds else view.interval
                time.sleep(max(0.0, min(view.interval, left)))
        except KeyboardInterrupt:
            pass
        finally:
            view.close()

    def complain_of_failures(self):
        if not self.daemon.running:
            raise RuntimeError(f"the daemon ended with {self.daemon.process.returncode}; its log:\n{self.daemon.tail()}")
        for thread in self.threads:
            if getattr(thread, "failure", None):
                raise RuntimeError(f"a writer failed: {thread.failure!r}")

    def state(self):
        now = time.monotonic()
        self.rates.append((now, self.world.commits))
        applied, daemon, conversations, messages, memberships, unread = self.read_query(FIGURES)[0]
        (then, commits), span = self.rates[0], max(now - self.rates[0][0], 0.001)
        return dict(
            elapsed=now - self.world.started, seconds=self.seconds, scratch=self.scratch.path,
            rate=(self.world.commits - commits) / span, commits=self.world.commits, conflicts=self.world.conflicts,
            daemon=daemon, lag_bytes=max(0, self.write.value(
                DATABASE, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::bigint", (applied,))),
            memory=self.daemon.peak_memory_kib() / 1024, latencies=list(self.threads[-1].latencies),
            conversations=conversations, messages=messages, memberships=memberships, unread=unread,
            busiest=self.read_query(BUSIEST), events=list(self.world.events))

    def stop_load(self):
        for thread in self.threads:
            thread.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def check(self):
        """Nobody writes any more, so the state at this LSN stays. Returns whether nothing differs."""
        self.complain_of_failures()
        lsn = self.write.value(DATABASE, "SELECT pg_current_wal_insert_lsn()::text")
        print(f"\n{self.world.commits} commits, {self.world.conflicts} lost races. The check, at {lsn}:", flush=True)
        if not self.read_value("SELECT pgprojector.wait_for(%s, '60 seconds')", (lsn,)):
            print(f"  the read side did not reach it within a minute; the daemon's log:\n{self.daemon.tail()}")
            return False
        with self.write.connect(DATABASE) as write, self.read.connect(DATABASE) as read:
            sums = expected(write.cursor())
            wrong = differing(read.cursor(), sums, True)
        for name in (*MIRRORS, *TARGETS):
            faults = [line for line in wrong if line.startswith(name + ":")]
            print(f"  {name:30}{sums[name][0]:>9} rows  " + (faults[0] if faults else "equal to its definition"))
        verify = command(["verify"], self.write_url, self.read_url, timeout=120)
        print(f"  pgprojector verify: exit {verify.code}")
        for line in (verify.out + (verify.err if verify.code else "")).splitlines():
            print(f"    {line}")
        return not wrong and verify.code == 0

    def close(self):
        if self.daemon.running:
            self.daemon.kill()
        self.scratch.close()


def on_term(*_):
    raise Ended


def main():
    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGHUP, on_term)
    demo = None
    try:
        demo = Demo(float(os.environ.get("DEMO_SECONDS") or 30))
        demo.start()
        demo.watch()
        demo.stop_load()
        same = demo.check()
        code = demo.daemon.stop()
        print("No difference." if same else "THERE ARE DIFFERENCES.", "The daemon ended with exit code", code)
        return 0 if same and code == 0 else 1
    except Ended:
        return 143
    except KeyboardInterrupt:
        return 130
    except (RuntimeError, AssertionError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        # Whatever comes now, what was made is removed first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if demo:
            demo.close()


if __name__ == "__main__":
    sys.exit(main())
