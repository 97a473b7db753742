"""PostgreSQL's own logical replication: of the mirrors alone, and with row triggers (triggers.sql) that keep what
pgprojector's projections keep. Mirrors, their indexes and the targets are those that pgprojector made."""


class Native:
    name, title = "native", "native subscription, mirrors only, binary"
    base, targets, slot = "native", False, "native"
    process = None

    def prepare(self, rig):
        rig.read_side(self.base)
        rig.fresh_slot("pristine_pgoutput", self.slot)

    def launch(self, rig, end=None):
        rig.read_query("ALTER SUBSCRIPTION bench ENABLE")

    def stop(self, rig):
        rig.read_query("ALTER SUBSCRIPTION bench DISABLE")
        rig.await_idle(self.slot)
        rig.drop_slot(self.slot)


class NativeTriggers(Native):
    name, title = "triggers", "native subscription + row triggers for both projections"
    base, targets = "triggers", True


class DurableTriggers(NativeTriggers):
    """Like with like: a subscription leaves its commits to the WAL writer by default, pgprojector waits for each."""
    name, title = "durable", "the same subscription and triggers, synchronous_commit = on"

    def prepare(self, rig):
        super().prepare(rig)
        rig.read_query("ALTER SUBSCRIPTION bench SET (synchronous_commit = 'on')")
