"""A definition that fails for some key: a first start, a table built beside and a new version are made all the same, without it."""
from harness.modules import Modules
from harness.scenes import do


def letters(pair):
    return pair.read_query("SELECT projection, key, sqlstate FROM pgprojector.dead_letter")


def test_a_key_whose_definition_fails_is_parked_by_a_fill(make_pair, tmp_path):
    modules = Modules(tmp_path, shipped=False)
    modules.titles(1, "10 / length(c.title) AS n")
    pair = make_pair(config=modules.config)
    pair.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), CASE WHEN i <> 77 THEN repeat('x', i)"
                     " ELSE '' END, 'group' FROM generate_series(1, 100) i")
    guilty = str(pair.write_value("SELECT id FROM conversations WHERE title = ''"))
    parked = [("titles", guilty, "22012")]
    pair.start()
    pair.catch_up()
    assert letters(pair) == parked and "1 key parked" in pair.daemon.tail()
    assert pair.read_value("SELECT count(*) FROM titles") == 99
    do(pair, "rebuild", "titles", "--fresh")
    assert letters(pair) == parked and pair.read_value("SELECT count(*) FROM titles") == 99
    modules.titles(2, "10 / length(c.title) AS n, c.type")
    pair.write_query("UPDATE conversations SET title = 'yy' WHERE title = 'x'")
    do(pair, "module", "add", "titles")
    pair.catch_up()
    assert letters(pair) == parked and pair.read_query("SELECT count(*), count(type), max(n) FROM titles") == [(99, 99, 5)]
    pair.write_query("UPDATE conversations SET title = 'mended' WHERE title = ''")
    pair.catch_up()
    do(pair, "deadletters", "retry", "--all")
    do(pair, "verify")
    # a row that a constraint on the table keeps out is not the module's fault either
    pair.read_query("ALTER TABLE titles ADD CONSTRAINT few CHECK (n <> 10)")
    pair.write_query("UPDATE conversations SET title = 'x' WHERE title = 'mended'")
    pair.catch_up()
    assert letters(pair) == [("titles", guilty, "23514")]
    result = do(pair, "rebuild", "titles", "--fresh", code=1)
    assert "few" in result.err and "drop it from public.titles" in result.err, result


def test_without_the_keys_of_all_sources_nothing_is_left_out(make_pair, tmp_path):
    modules = Modules(tmp_path, shipped=False)
    modules.titles(1, "10 / length(c.title) AS n, (SELECT count(*) FROM {users}) AS u", sources='{"users", NULL, NULL},')
    pair = make_pair(config=modules.config)
    pair.write_query("INSERT INTO conversations VALUES (gen_random_uuid(), gen_random_uuid(), '', 'group')")
    result = do(pair, "init", code=2)
    assert "division by zero" in result.err and "some row makes the definition fail" in result.err, result
