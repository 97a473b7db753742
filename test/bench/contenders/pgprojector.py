"""pgprojector: all mirrors and both projections. The clock includes the daemon's start."""


class Pgprojector:
    name, title = "pgprojector", "pgprojector: mirrors and both projections"
    base, targets = "pgprojector", True
    daemon = None

    def prepare(self, rig):
        self.slot = rig.slot
        rig.read_side(self.base)
        rig.fresh_slot("pristine_wal2json", self.slot)
        self.daemon = rig.daemon()

    def launch(self, rig, end=None):
        self.daemon.start()

    @property
    def process(self):
        return self.daemon.process

    def check_alive(self):
        if not self.daemon.running:
            raise RuntimeError(f"the daemon ended with {self.daemon.process.returncode}:\n{self.daemon.tail()}")
        if "halted" in self.daemon.tail():
            raise RuntimeError(f"the daemon has halted:\n{self.daemon.tail()}")

    def stop(self, rig):
        if self.daemon.running:
            self.daemon.stop()
        rig.await_idle(self.slot)
