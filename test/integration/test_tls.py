"""Both databases behind TLS."""
from harness.history import populate
from harness.scenes import SEED
from harness.tls import Tls


def test_answers_that_end_within_a_large_record(pair, tmp_path):
    """A record of 16 kB is decrypted as a whole, and libpq takes what it has room for: the rest is in no socket. Whoever waits
    for the socket then waits for ever: here for old rows, too large to be remembered."""
    populate(pair, SEED)
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content) SELECT md5(i::text)::uuid, md5('c')::uuid,"
                     " i, repeat(md5(i::text), 45) FROM generate_series(1, 3000) i")
    tls = Tls(tmp_path)
    pair.read_url = tls.url(pair.read, pair.name)
    pair.write_url = tls.url(pair.write, pair.name)
    pair.start()
    for part in range(20):
        pair.write_query("UPDATE messages SET created_at = now() WHERE sequence_number %% 20 = %s", (part,))
        pair.catch_up()
    result = pair.command("verify")
    assert result.code == 0, result
