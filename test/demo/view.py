"""What one sees: on a terminal a display that is refreshed in place, elsewhere a line now and then."""
import shutil
import sys

CLEAR_LINE, CLEAR_BELOW, HOME, HIDE, SHOW = "\x1b[K", "\x1b[J", "\x1b[H", "\x1b[?25l", "\x1b[?25h"
CLEAR_SCREEN, BOLD, DIM, PLAIN = "\x1b[2J", "\x1b[1m", "\x1b[2m", "\x1b[0m"


def size_text(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def lag_line(state):
    if not state["latencies"]:
        return "commit to visible: -"
    ordered = sorted(state["latencies"])
    return (f"commit to visible, last {len(ordered)} probes: median {ordered[len(ordered) // 2]:.1f} ms,"
            f" worst {ordered[-1]:.1f} ms")


class Lines:
    """For logs and pipes."""

    interval = 2.0
    events = 4    # of the many since the last line, the latest ones

    def __init__(self):
        self.shown = 0.0

    def show(self, state):
        new = [event for event in state["events"] if event[0] > self.shown]
        for at, text in new[-self.events:]:
            print(f"{at:6.1f} s    {text}")
        self.shown = new[-1][0] if new else self.shown
        print(f"{state['elapsed']:6.1f} s  {state['rate']:5.0f} commits/s, {state['commits']} so far"
              f" | daemon {state['daemon']}, {size_text(state['lag_bytes'])} behind | {lag_line(state)}"
              f" | {state['messages']} messages, {state['unread']} unread", flush=True)

    def close(self):
        pass


class Screen:
    """For people."""

    interval = 0.25

    def __init__(self):
        sys.stdout.write(CLEAR_SCREEN + HIDE)

    def show(self, state):
        width, height = shutil.get_terminal_size()
        lines = self.head(state) + self.rooms(state)
        lines += [f"{BOLD}what else happened{PLAIN}"]
        room = max(3, height - len(lines) - 1)
        lines += [f"{DIM}{at:6.1f} s{PLAIN}  {text}" for at, text in list(state["events"])[-room:]]
        lines = [self.fit(line, width) for line in lines[:height - 1]]
        sys.stdout.write(HOME + "".join(line + CLEAR_LINE + "\r\n" for line in lines) + CLEAR_BELOW)
        sys.stdout.flush()

    @staticmethod
    def head(state):
        until = f"of {state['seconds']:.0f} s, then the check" if state["seconds"] else "until Ctrl-C, then the check"
        return [
            f"{BOLD}pgprojector demo{PLAIN}   {state['elapsed']:.0f} s {until}   {DIM}{state['scratch']}{PLAIN}", "",
            f"write database  {BOLD}{state['rate']:6.0f}{PLAIN} commits/s    {state['commits']} commits,"
            f" {state['conflicts']} lost races rolled back",
            f"daemon          {BOLD}{state['daemon']}{PLAIN}, {size_text(state['lag_bytes'])} behind,"
            f" peak memory {state['memory']:.0f} MiB",
            f"                {lag_line(state)}",
            f"read database   {state['conversations']} conversations, {state['messages']} messages,"
            f" {state['memberships']} memberships, {state['unread']} unread messages", ""]

    @staticmethod
    def rooms(state):
        lines = [f"{BOLD}{'busiest conversations':32}{'messages':>10}{'last no.':>10}{'members':>9}{'unread':>10}{PLAIN}"]
        lines += [f"{(name or '')[:31]:32}{count:>10}{last or '-':>10}{members:>9}{unread:>10}"
                  for name, count, last, members, unread in state["busiest"]]
        return lines + [""]

    @staticmethod
    def fit(line, width):
        plain, out, inside = 0, [], False
        for char in line:
            inside = inside or char == "\x1b"
            if not inside:
                plain += 1
                if plain > width:
                    continue
            out.append(char)
            inside = inside and char != "m"
        return "".join(out)

    def close(self):
        sys.stdout.write(SHOW)
        sys.stdout.flush()


def make_view():
    return Screen() if sys.stdout.isatty() else Lines()
