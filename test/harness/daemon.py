"""The program under test: `Daemon` for `pgprojector run`, `command` for the verbs that end by themselves."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

from .cluster import die_with_parent, poll

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("PGPROJECTOR", ROOT / "build" / "pgprojector"))


class Result:
    """What a command left: exit code, stdout, stderr, and the seconds it took."""

    def __init__(self, process, seconds):
        self.code = process.returncode
        self.out = process.stdout
        self.err = process.stderr
        self.seconds = seconds

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def environment(write_url, read_url, **more):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG") and "DATABASE_URL" not in name}
    if write_url is not None:
        env["WRITE_DATABASE_URL"] = write_url
    if read_url is not None:
        env["READ_DATABASE_URL"] = read_url
    # LeakSanitizer cannot work under some tracers and must not decide about a daemon that is killed anyway.
    env.setdefault("ASAN_OPTIONS", "detect_leaks=0")
    env.update(more)
    return env


def command(arguments, write_url=None, read_url=None, timeout=60, **more):
    """Runs `pgprojector ARGUMENTS` to its end."""
    started = time.monotonic()
    process = subprocess.run([PROGRAM, *[str(word) for word in arguments]], env=environment(write_url, read_url, **more),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                             timeout=timeout, check=False)
    return Result(process, time.monotonic() - started)


class Daemon:
    """`pgprojector [-c FILE] run` for a pair of databases. Start it from the main thread (see cluster.py)."""

    def __init__(self, pair, config=None, log=None, arguments=()):
        self.pair = pair
        self.log = pathlib.Path(log or pair.scratch.path / f"{pair.name}.daemon.log")
        self.words = [PROGRAM, *(["-c", str(config)] if config else []), "run", *arguments]
        self.process = None
        self.peak_kib = 0

    def start(self):
        assert self.process is None or self.process.poll() is not None, "runs already"
        with open(self.log, "ab") as log:
            log.write(b"--- started\n")
            self.process = subprocess.Popen(self.words, env=environment(self.pair.write_url, self.pair.read_url),
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                            preexec_fn=die_with_parent)
        return self

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.process.wait(10)

    def signal(self, number):
        if self.running:
            self.process.send_signal(number)

    def stop(self, timeout=10):
        """SIGTERM; the contract: exit code 0 within 10 s. Returns the exit code."""
        if self.process is None:
            return None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {timeout} s of SIGTERM; log:\n{self.tail()}") from None

    def wait(self, timeout=20):
        """Waits for the daemon to end by itself; its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout} s; log:\n{self.tail()}") from None

    def tail(self, size=3000):
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def since_start(self):
        """What it has logged since it was last started."""
        return self.log.read_text(errors="replace").rpartition("--- started\n")[2] if self.log.exists() else ""

    def row(self):
        """The daemon's own row in the catalog: (state, message, hint), or None while there is none."""
        if not self.pair.read_value("SELECT to_regclass('pgprojector.daemon') IS NOT NULL"):
            return None
        rows = self.pair.read_query("SELECT state, message, hint FROM pgprojector.daemon WHERE pid = %s",
                                    (self.process.pid,))
        return rows[0] if rows else None

    def await_state(self, *states, timeout=20):
        """Polls until the daemon says that it is in one of the states. Returns (state, message, hint)."""
        def reached():
            if not self.running:
                raise AssertionError(f"daemon ended with {self.process.returncode}; log:\n{self.tail()}")
            row = self.row()
            if row and row[0] == "halted" and "halted" not in states:
                raise AssertionError(f"halted: {row}; log:\n{self.tail()}")
            return row if row and row[0] in states else None
        try:
            return poll(reached, timeout, f"state {' or '.join(states)}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it says {self.row()}; log:\n{self.tail()}") from None

    def streaming(self, timeout=30):
        self.await_state("streaming", timeout=timeout)
        return self

    def peak_memory_kib(self):
        """VmHWM: the most memory that was ever resident."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1))
