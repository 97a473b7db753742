"""The pump: pg_recvlogical throws away what wal2json sends, with the very options that the daemon asked for. No consumer of
this plugin can be faster."""
import subprocess

from rig import PG_BIN, DATABASE
from harness.cluster import die_with_parent


class Pump:
    name, title = "pump", "pg_recvlogical to /dev/null (the pump)"
    base, targets, slot = None, False, "pump"

    def prepare(self, rig, end=None):
        rig.fresh_slot("pristine_wal2json", self.slot)

    def launch(self, rig, end):
        options = [word for name, value in rig.options for word in ("-o", f"{name}={value}")]
        self.process = subprocess.Popen(
            [PG_BIN / "pg_recvlogical", "-d", rig.write_url, "-S", self.slot, "--start", "--no-loop", "--endpos", end,
             "-f", "/dev/null", *options], stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)

    def done(self):
        code = self.process.poll()
        if code:
            raise RuntimeError(f"pg_recvlogical ended with {code}")
        return code == 0

    def stop(self, rig):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        rig.drop_slot(self.slot)
