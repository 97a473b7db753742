"""What several tests do with a pair whose daemon streams."""
import contextlib
import os

from .workload import Workload

SEED = int(os.environ.get("SEED") or 1)

# Inserts that many messages into the first conversation.
SEND = ("INSERT INTO messages (id, conversation_id, content, created_at) SELECT gen_random_uuid(),"
        " (SELECT id FROM conversations ORDER BY id LIMIT 1), 'sent', now() FROM generate_series(1, %s)")


def contents(pair):
    """A digest of everything that the stream could change on the read side, the checkpoint included."""
    return pair.read_query("SELECT md5(string_agg(t, '' ORDER BY t)) FROM (SELECT m::text FROM messages m UNION ALL"
                           " SELECT s::text FROM conversation_summary s UNION ALL SELECT u::text FROM"
                           " user_conversation_membership u UNION ALL SELECT lsn::text"
                           " FROM pgprojector.checkpoint) x (t)")


def do(pair, *words, code=0):
    """A command that must end so."""
    result = pair.command(*words)
    assert result.code == code, (result, pair.daemon.tail())
    return result


@contextlib.contextmanager
def load(pair, writers=2, **more):
    """Writers that go on until the end of the `with`."""
    workload = Workload(pair, SEED, writers, None, pace=0.002, **more).start()
    try:
        yield workload
        workload.stop()
    finally:
        workload.stopping = True
