"""CPU seconds and memory of processes, from /proc; percentiles."""
import os
import pathlib
import re
import threading

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process so far; None if it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:    # it has ended
        return None
    return (int(fields[11]) + int(fields[12])) / TICK


def server_seconds(cluster):
    """User and system time of a server so far: its postmaster, the processes that it has and those that it has had."""
    main = cluster.process.pid
    fields = pathlib.Path(f"/proc/{main}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / TICK + sum(cpu_seconds(pid) or 0 for pid in children(main))


def peak_memory_mib(pid):
    match = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    return int(match.group(1)) / 1024


def children(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def role(pid):
    """What a server process does, from its title; None of one that has ended (a zombie has no title)."""
    try:
        title = pathlib.Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ")
    except OSError:    # it has ended
        return None
    if not title:
        return None
    if "walsender" in title:
        return "walsender"
    if "logical replication" in title or "[local]" in title:
        return "backend"
    return "server"


class Cpu:
    """Sums the CPU seconds of server processes by role from `start` to `stop`, also of those that end in between (to within
    the sampling interval). Backends in `ours` are the harness's own and are not counted."""

    INTERVAL = 0.05

    def __init__(self, clusters, ours=()):
        self.clusters = clusters
        self.ours = set(ours)
        self.first, self.last, self.roles = {}, {}, {}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.sample_on, daemon=True)

    def start(self):
        self.sample(initial=True)
        self.thread.start()
        return self

    def stop(self):
        """Seconds by (cluster name, role)."""
        self.done.set()
        self.thread.join()
        self.sample()
        sums = {}
        for pid, seconds in self.last.items():
            key = self.roles[pid]
            sums[key] = sums.get(key, 0.0) + seconds - self.first.get(pid, 0.0)
        return sums

    def sample_on(self):
        while not self.done.wait(self.INTERVAL):
            self.sample()

    def sample(self, initial=False):
        for cluster in self.clusters:
            for pid in children(cluster.process.pid):
                seconds, kind = cpu_seconds(pid), role(pid)
                if seconds is None or kind is None or pid in self.ours:
                    continue
                if initial:
                    self.first[pid] = seconds
                self.last[pid] = seconds
                self.roles[pid] = (cluster.name, kind)


def percentile(values, fraction):
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(fraction * len(ordered) + 0.5) - 1))]
