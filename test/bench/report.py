"""Results as text, and, with PLOT=1, into README.md (between the markers of each benchmark) and as SVG."""
import datetime
import os
import pathlib
import platform
import statistics
import subprocess

from harness.cluster import PG_BIN

from plot import bars

HERE = pathlib.Path(__file__).resolve().parent


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    server = subprocess.run([PG_BIN / "postgres", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[2]
    return (f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB; Linux {platform.release().split('-')[0]},"
            f" PostgreSQL {server}")


class Table:
    """A titled table; `notes` stand below it, `chart` is {label: value} or None."""

    def __init__(self, key, title, head, rows, notes=(), chart=None, unit=""):
        self.key, self.title, self.head, self.notes, self.chart, self.unit = key, title, head, notes, chart, unit
        self.rows = [[str(cell) for cell in row] for row in rows]

    def text(self):
        widths = [max(len(row[n]) for row in [self.head, *self.rows]) for n in range(len(self.head))]
        lines = ["  ".join(cell.ljust(width) if n == 0 else cell.rjust(width)
                           for n, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in [self.head, *self.rows]]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([self.title, "", *lines, *[f"  {note}" for note in self.notes]])

    def markdown(self):
        lines = ["| " + " | ".join(row) + " |" for row in [self.head, *self.rows]]
        lines.insert(1, "|---" + "|--:" * (len(self.head) - 1) + "|")
        image = [f"![{self.title}]({self.key}.svg)", ""] if self.chart else []
        return "\n".join([f"**{self.title}**", "", *lines, "", *[f"- {note}" for note in self.notes], "", *image])


def number(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def catch_up_table(recording, contenders, runs, base):
    """Seconds are medians; ratios are taken within each round, then their median."""
    pump = [figures.seconds for figures in runs["pump"]] if "pump" in runs else None
    rows, chart = [], {}
    for kind in contenders:
        figures = runs[kind.name]

        def median(field):
            values = [getattr(run, field) for run in figures if getattr(run, field) is not None]  # noqa: B023
            return statistics.median(values) if values else None

        ratio = statistics.median(run.seconds / one for run, one in zip(figures, pump)) if pump else None
        chart[kind.title] = median("seconds")
        rows.append([kind.title, number(median("seconds")), number(min(run.seconds for run in figures)),
                     number(max(run.seconds for run in figures)), number(ratio), number(median("startup")),
                     number(median("walsender")), number(median("daemon")), number(median("backend")),
                     number(median("memory_mib"), 0)])
    words = {"message": "a message insert and a conversation update each", "mixed": "mixed",
             "bigtx": "one transaction"}[recording.load]
    unit = "messages in" if recording.load == "bigtx" else "transactions,"
    return Table(
        f"catchup-{base}{recording.load}", f"Catch-up: {recording.transactions:,} {unit} {words}" + (f" ({base.rstrip('-')})" if base else ""),
        ["", "s", "min", "max", "of the pump", "startup s", "walsender CPU s", "daemon CPU s", "read backend CPU s", "daemon MiB"],
        rows, [f"medians of {len(next(iter(runs.values())))} interleaved runs; recorded in {recording.seconds:.0f} s"], chart, "s")


def latency_table(results, contenders):
    rows = []
    for (name, rate), figures in sorted(results.items(), key=lambda item: (item[0][1], item[0][0])):
        title = next(kind.title for kind in contenders if kind.name == name)
        rows.append([f"{rate}/s: {title}", number(figures["p50"]), number(figures["p99"]), number(figures["worst"], 1),
                     number(figures["reached"], 0), number(figures["walsender"], 1), number(figures["daemon"], 1),
                     number(figures["backend"], 1)])
    chart = {f"{rate}/s {name} {what}": results[name, rate][what]
             for name, rate in sorted(results, key=lambda key: (key[1], key[0])) for what in ("p50", "p99")}
    return Table("latency", "Commit returned to visible, milliseconds",
                 ["", "p50 ms", "p99 ms", "worst", "load tx/s", "walsender CPU s", "daemon CPU s", "read backends CPU s"], rows,
                 ["read backends include the probe's own reading"], chart, "ms")


def group_table(results, contenders):
    rows = [[next(kind.title for kind in contenders if kind.name == name), *[number(figures[key], 1) for key in
             ("group_p50", "group_p99", "others_p50", "others_p99")]] for name, figures in results.items()]
    return Table("group", "A group of 10,000 members, 100 messages a second, milliseconds to visible",
                 ["", "group p50", "group p99", "others p50", "others p99"], rows)


def freshness_table(results):
    usual = results["nothing"]["p50"]
    rows = [[name, *[number(figures[key]) for key in ("p50", "p90", "p99")], number(figures["worst"], 1), number(figures["p50"] / usual),
             number(figures["reached"], 0), figures["commands"] or "", number(figures["each"])] for name, figures in results.items()]
    return Table("freshness", "Commit returned to visible while other projections are rebuilt, milliseconds",
                 ["meanwhile", "p50", "p90", "p99", "worst", "p50 of the usual", "load tx/s", "commands", "s each"], rows)


def snapshot_table(runs, history, conversations):
    rows = []
    for name, results in runs.items():
        figures = {key: statistics.median(run[1][key] for run in results) for key in results[0][1]}
        rows.append([name, number(statistics.median(run[0] for run in results), 1),
                     *[number(figures.get(key), 1) for key in ("finish_by_sql", "targets_by_sql", "rebuild", "resync", "cpu")],
                     number(figures.get("memory_mib"), 0)])
    return Table("snapshot", f"From scratch: {history:,} messages, {conversations:,} conversations of 10",
                 ["", "s", "then indexes and targets by SQL, s", "of it the targets", "rebuild --all, s", "resync of 1 %, s",
                  "CPU s of both servers", "daemon MiB"],
                 rows, [], {name: statistics.median(run[0] for run in results) for name, results in runs.items()}, "s")


def publish(table):
    """Prints; with PLOT=1 also writes."""
    print("\n" + table.text() + "\n", flush=True)
    if os.environ.get("PLOT", "0") in ("", "0"):
        return
    today = datetime.date.today().isoformat()
    block = f"{table.markdown()}\nMeasured {today}; {machine()}.\n"
    readme = HERE / "README.md"
    begin, end = f"<!-- begin {table.key} -->\n", f"<!-- end {table.key} -->\n"
    text = readme.read_text()
    if begin in text:
        head, rest = text.split(begin, 1)
        text = head + begin + block + end + rest.split(end, 1)[1]
    else:
        text = text.rstrip("\n") + f"\n\n{begin}{block}{end}"
    readme.write_text(text)
    if table.chart:
        (HERE / f"{table.key}.svg").write_text(bars(table.title, table.chart, table.unit))
