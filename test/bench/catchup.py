"""Catch-up: recorded WAL is waiting in a slot; how long until its last commit is visible?"""
import time

from measure import Cpu, cpu_seconds, peak_memory_mib
from rig import DATABASE, MARKER, say

TIMEOUT = 900


class Figures:
    """What one run of one contender took."""

    def __init__(self, seconds, startup, cpu, daemon_cpu, memory_mib):
        self.seconds = seconds          # launch to visible
        self.startup = startup          # launch to streaming (the slot is in use)
        self.walsender = cpu.get(("write", "walsender"), 0.0)
        self.backend = cpu.get(("read", "backend"), 0.0)
        self.daemon = daemon_cpu
        self.memory_mib = memory_mib    # VmHWM of the daemon


def run(rig, contender, recording):
    """One measured run, its result checked."""
    contender.prepare(rig)
    try:
        figures = measure(rig, contender, recording)
        if contender.base:
            rig.check(recording.sums, contender.targets)
    finally:
        contender.stop(rig)
    return figures


def measure(rig, contender, recording):
    watch = rig.write.connect("postgres")
    look = rig.read.connect(DATABASE) if contender.base else None
    rig.write_sql("CHECKPOINT")
    clusters = [rig.write] + ([rig.read] if look else [])
    cpu = Cpu(clusters, ours=[conn.info.backend_pid for conn in (watch, look) if conn]).start()
    start = time.monotonic()
    contender.launch(rig, recording.end)
    startup = None
    checked = start
    while True:
        if startup is None and active(watch, contender.slot):
            startup = time.monotonic() - start
        if visible(look) if look else contender.done():
            break
        if hasattr(contender, "check_alive") and time.monotonic() - checked > 1:
            checked = time.monotonic()
            contender.check_alive()
        if time.monotonic() - start > TIMEOUT:
            raise RuntimeError(f"{contender.name} did not finish within {TIMEOUT} s")
        time.sleep(0.005 if startup is None else 0.01)
    seconds = time.monotonic() - start
    process = contender.process
    own = cpu_seconds(process.pid) if process and look else None
    memory = peak_memory_mib(process.pid) if own is not None else None
    figures = Figures(seconds, startup, cpu.stop(), own, memory)
    watch.close()
    if look:
        look.close()
    return figures


def active(conn, slot):
    with conn.cursor() as cursor:
        cursor.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,))
        row = cursor.fetchone()
        return row is not None and row[0]


def visible(conn):
    with conn.cursor() as cursor:
        cursor.execute("SELECT 1 FROM public.messages WHERE id = %s", (MARKER,))
        return cursor.fetchone() is not None


def catch_up(rig, contenders, recording, repeat):
    """All contenders in turn, `repeat` times over. A list of Figures for each, by name."""
    runs = {contender.name: [] for contender in contenders}
    for _ in range(repeat):
        for contender in contenders:
            figures = run(rig, contender(), recording)
            runs[contender.name].append(figures)
            say(f"  {recording.load}: {contender.name} {figures.seconds:.2f} s")
    return runs
