"""Freshness while tables are rebuilt: the probe of `latency` watches conversation_summary at 500 transactions a second, while
commands that concern other projections come back to back. Each ends with the read side being right."""
import itertools
import os
import pathlib
import shutil
import statistics
import tempfile
import threading
import time

from harness.daemon import Daemon, command
from harness.modules import Modules

from contenders.pgprojector import Pgprojector
from latency import Load, WARM_UP, await_caught_up, begin, build_probe, probe, settle
from measure import percentile
from rig import say

REBUILT = "user_conversation_membership"


class WithModules(Pgprojector):
    """pgprojector with a module directory of its own, in which a module can be replaced while it runs."""

    def prepare(self, rig):
        super().prepare(rig)
        self.directory = tempfile.TemporaryDirectory(prefix="pjm.")    # ours, where the scratch directory is the servers'
        self.modules = Modules(pathlib.Path(self.directory.name))
        self.config = rig.scratch.path / "freshness.conf"
        self.config.write_text(self.modules.config)
        self.daemon = Daemon(rig, config=self.config, log=rig.scratch.path / "daemon.log")
        self.versions = itertools.cycle([self.build(1, "c.title"), self.build(2, "c.type")])

    def build(self, version, columns):
        """Ready to be put in place, so that no compiler runs meanwhile."""
        built = self.modules.titles(version, columns, place=False)
        return built.rename(built.with_name(f"titles.{version}"))

    def stop(self, rig):
        super().stop(rig)
        self.directory.cleanup()

    def run(self, rig, *words):
        result = command(["-c", self.config, *words], rig.write_url, rig.read_url)
        if result.code != 0:
            raise RuntimeError(f"{' '.join(words)}: {result}")

    def rebuild(self, rig):
        self.run(rig, "rebuild", REBUILT)

    def rebuild_fresh(self, rig):
        self.run(rig, "rebuild", REBUILT, "--fresh")

    def register(self, rig):
        """Another version than the one before."""
        copied = self.modules.path / "titles.copied"
        shutil.copy(next(self.versions), copied)
        os.replace(copied, self.modules.path / "titles.so")
        self.run(rig, "module", "add", "titles")


MEANWHILE = {
    "nothing": None,
    f"rebuild {REBUILT}": WithModules.rebuild,
    f"rebuild {REBUILT} --fresh": WithModules.rebuild_fresh,
    "module add titles, another version each time": WithModules.register,
}


class BackToBack:
    """A command again and again, until it is told to end; how long each took, and whether one failed."""

    def __init__(self, step, *arguments):
        self.step, self.arguments = step, arguments
        self.seconds, self.failure = [], None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while self.step and not self.ended.is_set():
                start = time.monotonic()
                self.step(*self.arguments)
                self.seconds.append(time.monotonic() - start)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def finish(self):
        self.ended.set()
        self.thread.join()
        if self.failure:
            raise self.failure
        return self.seconds


def measure(rig, contender, program, step, rate, seconds):
    load = Load(rig, rate, seconds + WARM_UP + 1)
    settle(load)
    commands = BackToBack(step, contender, rig)
    values = probe(program, rig, seconds)
    taken = commands.finish()
    reached = load.finish()
    await_caught_up(rig)
    rig.check(rig.expected(), contender.targets)
    return dict(p50=percentile(values, 0.5), p90=percentile(values, 0.9), p99=percentile(values, 0.99), worst=max(values),
                reached=reached, commands=len(taken), each=statistics.median(taken) if taken else None)


def freshness(rig, seconds, rate=500):
    """What goes on meanwhile -> p50, p90, p99, worst (ms), rate reached, commands, seconds each."""
    program = build_probe(rig.scratch.path)
    contender = WithModules()
    results = {}
    begin(rig, contender)
    try:
        for name, step in MEANWHILE.items():
            results[name] = measure(rig, contender, program, step, rate, seconds)
            say(f"  freshness: {name}: {results[name]}")
    finally:
        contender.stop(rig)
    return results
