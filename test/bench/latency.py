"""Commit to visible: a paced load at a fixed rate, and a probe beside it.

The load is `pgbench -R`: an open loop whose transactions start at random moments (Poisson) of the given mean rate, whether or
not earlier ones are through; each is one CALL, that is one round trip and one commit. The probe (probe.c) adds 100 messages a
second and watches for them on the read database.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import uuid

from harness.cluster import PG_BIN, die_with_parent, poll

from measure import Cpu, cpu_seconds, percentile
from rig import HERE, MARKER, say

ROOT = HERE.parents[1]
PROBE_RATE = 100
WARM_UP = 3


def build_probe(directory):
    """Compiles the probe unless make has."""
    built = pathlib.Path(os.environ.get("PROBE", ROOT / "build" / "bench" / "probe"))
    if built.exists() and built.stat().st_mtime >= (HERE / "probe.c").stat().st_mtime:
        return built
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libpq"], stdout=subprocess.PIPE, text=True, check=True)
    program = directory / "probe"
    subprocess.run([os.environ.get("CC", "gcc"), "-std=c17", "-D_GNU_SOURCE", "-O2", "-o", program, HERE / "probe.c",
                    *flags.stdout.split(), "-lpthread"], check=True)
    return program


class Load:
    """pgbench at a rate, in the background."""

    def __init__(self, rig, rate, seconds, clients=8):
        script = rig.scratch.path / "one.sql"
        script.write_text("\\set slip random(0, 65535)\nCALL bench.one(:slip);\n")
        self.process = subprocess.Popen(
            [PG_BIN / "pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-R", str(rate), "-T", str(seconds),
             "-f", script, rig.write_url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=die_with_parent)

    def finish(self):
        """The rate that was reached."""
        output = self.process.communicate()[0]
        for line in output.splitlines():
            if line.startswith("tps ="):
                return float(line.split()[2])
        raise RuntimeError(f"pgbench: {output}")


def probe(program, rig, seconds, rate=PROBE_RATE, room=None):
    """Latencies in milliseconds."""
    words = [program, rig.write_url, rig.read_url, str(rate), str(seconds), str(uuid.uuid4())] + ([room] if room else [])
    output = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True, check=True,
                            timeout=seconds + 120).stdout
    return [float(line) / 1000 for line in output.split()]


def settle(load):
    """The load runs for a while before anything is measured."""
    try:
        output = load.process.communicate(timeout=WARM_UP)[0]
    except subprocess.TimeoutExpired:
        return
    raise RuntimeError(f"pgbench ended: {output}")


def begin(rig, contender):
    """The contender runs on base data, caught up."""
    rig.write_side()
    contender.prepare(rig)
    contender.launch(rig)
    poll(lambda: rig.slot_active(contender.slot), timeout=60, what="streaming")
    await_caught_up(rig)


def await_caught_up(rig):
    """The marker goes, then comes: one that is still there from before would prove nothing."""
    seen = f"SELECT count(*) FROM public.messages WHERE id = '{MARKER}'"
    rig.write_sql(f"DELETE FROM public.messages WHERE id = '{MARKER}'")
    poll(lambda: rig.read_value(seen) == 0, timeout=120, what="the marker's end on the read side")
    rig.write_sql(f"CALL bench.mark('{MARKER}')")
    poll(lambda: rig.read_value(seen) == 1, timeout=120, what="the marker on the read side")


def finish(rig, contender):
    """Everything has arrived, and it is right."""
    try:
        await_caught_up(rig)
        rig.check(rig.expected(), contender.targets)
    finally:
        contender.stop(rig)


def latency(rig, contenders, rates=(500, 1000, 2000), seconds=20):
    """(contender, rate) -> dict of p50, p99, rate reached, CPU."""
    program = build_probe(rig.scratch.path)
    results = {}
    for kind in contenders:
        for rate in rates:
            contender = kind()
            begin(rig, contender)
            load = Load(rig, rate, seconds + WARM_UP + 1)
            settle(load)
            cpu = Cpu([rig.write, rig.read]).start()
            own = cpu_seconds(contender.process.pid) if contender.process else 0.0
            values = probe(program, rig, seconds)
            own = cpu_seconds(contender.process.pid) - own if contender.process else None
            cpu = cpu.stop()
            reached = load.finish()
            finish(rig, contender)
            results[kind.name, rate] = dict(
                p50=percentile(values, 0.5), p99=percentile(values, 0.99), worst=max(values), reached=reached,
                daemon=own, walsender=cpu.get(("write", "walsender"), 0.0), backend=cpu.get(("read", "backend"), 0.0))
            say(f"  latency: {kind.name} at {rate}/s: p50 {results[kind.name, rate]['p50']:.2f} ms,"
                f" p99 {results[kind.name, rate]['p99']:.2f} ms")
    return results


def group(rig, contenders, members=10_000, messages=1000, rate=100):
    """A group of many members gets messages, while other conversations go on: p99 of both."""
    program = build_probe(rig.scratch.path)
    room = str(uuid.UUID(int=0x4000))
    results = {}
    for kind in contenders:
        contender = kind()
        begin(rig, contender)
        rig.write_sql(f"CALL bench.group('{room}', {members})")
        await_caught_up(rig)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            big = pool.submit(probe, program, rig, messages / rate, rate, room)
            others = pool.submit(probe, program, rig, messages / rate, rate)
            big, others = big.result(), others.result()
        finish(rig, contender)
        results[kind.name] = dict(group_p50=percentile(big, 0.5), group_p99=percentile(big, 0.99),
                                  others_p50=percentile(others, 0.5), others_p99=percentile(others, 0.99))
        say(f"  group: {kind.name}: {results[kind.name]}")
    return results
