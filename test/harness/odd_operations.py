"""What writers do to the awkward tables of schema.py."""
from .operations import operation

SINK = '"Odd Schema"."Größe ""Tabelle"""'


@operation(6, odd=True)
def sink_upsert(d, _flavour):
    row = {'"Id"': d.rng.randrange(30), **d.odd_row()}
    columns = list(row)
    sets = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    yield (f"INSERT INTO {SINK} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
           f" ON CONFLICT (\"Id\") DO UPDATE SET {sets}", tuple(row.values()))


@operation(2, odd=True)
def sink_long(d, _flavour):
    sql, values = d.long_text()
    yield f'UPDATE {SINK} SET big_text = {sql} WHERE "Id" = %s', (*values, d.rng.randrange(30))


@operation(4, odd=True)
def sink_partly(d, _flavour):
    column, value = d.pick(list(d.odd_row().items()))
    yield f'UPDATE {SINK} SET {column} = %s WHERE "Id" = %s', (value, d.rng.randrange(30))


@operation(2, odd=True)
def sink_key(d, _flavour):
    new, old = d.rng.randrange(30), d.rng.randrange(30)
    yield f'DELETE FROM {SINK} WHERE "Id" = %s', (new,)
    yield f'UPDATE {SINK} SET "Id" = %s WHERE "Id" = %s', (new, old)


@operation(3, odd=True)
def swaps_fill(d, _flavour):
    yield "INSERT INTO swaps (id, label) VALUES (%s, %s) ON CONFLICT DO NOTHING", (d.rng.randrange(20), d.text())


@operation(3, odd=True)
def swaps_swap(d, _flavour):
    one, two, aside = d.rng.randrange(20), d.rng.randrange(20), -1 - d.rng.randrange(10**6)
    for new, old in ((aside, one), (one, two), (two, aside)):
        yield "UPDATE swaps SET id = %s WHERE id = %s", (new, old)
    if d.chance(0.3):
        yield "UPDATE swaps SET label = label || '+' WHERE id IN (%s, %s) AND length(label) < 50", (one, two)


@operation(1, odd=True)
def swaps_shift(d, _flavour):
    """Every key changes, through values beyond all others and back."""
    yield "UPDATE swaps SET id = id + 1000 WHERE id BETWEEN 0 AND 19", ()
    yield "UPDATE swaps SET id = (id - 1000 + %s) %% 20 WHERE id BETWEEN 1000 AND 1019", (d.rng.randrange(20),)


@operation(3, odd=True)
def by_index_fill(d, _flavour):
    sql, values = d.long_text()
    yield (f'INSERT INTO "by index" (id, code, part, body, n) VALUES (%s, %s, %s, {sql}, 0) ON CONFLICT DO NOTHING',
           (d.rng.randrange(20), d.pick(("", "a", "'", "ü", "\\")), d.rng.randrange(5), *values))


@operation(5, odd=True)
def by_index_change(d, _flavour):
    """The identity, the primary key, both or neither; the long body stays."""
    change = d.pick(("n = n + 1", "id = %(id)s", "part = %(part)s", "code = %(code)s, id = %(id)s", "part = part + 100",
                     "part = part - 100"))
    yield (f'UPDATE "by index" SET {change} WHERE id = %(old)s',
           {"id": d.rng.randrange(20), "part": d.rng.randrange(5), "code": d.pick(("", "a", "'", "ü", "\\")),
            "old": d.rng.randrange(20)})


@operation(2, odd=True)
def by_index_delete(d, _flavour):
    yield 'DELETE FROM "by index" WHERE id %% 4 = %s', (d.rng.randrange(4),)


@operation(3, odd=True)
def full_fill(d, _flavour):
    sql, values = d.long_text()
    yield (f"INSERT INTO full_rows (body, a, b, extra) VALUES ({sql}, %s, %s, 1.50) ON CONFLICT DO NOTHING",
           (*values, d.text(), d.rng.randrange(3)))


@operation(4, odd=True)
def full_change(d, _flavour):
    change = d.pick(("extra = extra * 1.0", "b = %(b)s", "a = %(a)s", "body = 'short'", "extra = NULL", "body = NULL"))
    yield (f"UPDATE full_rows SET {change} WHERE (b, a) = (SELECT b, a FROM full_rows ORDER BY md5(a || b || %(salt)s)"
           " LIMIT 1)", {"b": d.rng.randrange(3), "a": d.text(), "salt": str(d.rng.random())})


@operation(2, odd=True)
def full_delete(d, _flavour):
    yield "DELETE FROM full_rows WHERE b = %s", (d.rng.randrange(3),)


@operation(3, odd=True)
def only_key_change(d, _flavour):
    key = (d.rng.randrange(5), d.text())
    yield d.pick(("INSERT INTO only_key (a, b) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                  "DELETE FROM only_key WHERE a = %s OR b = %s", "UPDATE only_key SET a = a + 5 WHERE a = %s AND b <> %s",
                  "UPDATE only_key SET a = a - 5 WHERE a - 5 = %s AND b <> %s")), key


@operation(5, odd=True)
def parts_fill(d, _flavour):
    yield ('INSERT INTO "Parts" (id, region, v, w) SELECT i, %s, %s, i FROM generate_series(1, %s) i'
           " ON CONFLICT (id, region) DO UPDATE SET w = excluded.w + 1, v = excluded.v",
           (d.rng.randrange(6), d.text(), d.rng.randrange(1, 8)))


@operation(5, odd=True)
def parts_move(d, _flavour):
    yield ('UPDATE "Parts" SET region = %s, w = w + 1 WHERE id = %s AND region = %s',
           (d.rng.randrange(6), d.rng.randrange(8), d.rng.randrange(6)))


@operation(2, odd=True)
def parts_delete(d, _flavour):
    yield 'DELETE FROM "Parts" WHERE id = %s', (d.rng.randrange(8),)


@operation(2, odd=True)
def parts_new(d, _flavour):
    region = d.rng.randrange(3, 6)
    schema = "public" if region != 4 else '"Odd Schema"'
    yield "SELECT pg_advisory_xact_lock(1)", ()
    yield f'CREATE TABLE IF NOT EXISTS {schema}."Parts {region}" PARTITION OF "Parts" FOR VALUES IN ({region})', ()
    yield 'INSERT INTO "Parts" (id, region, v) VALUES (%s, %s, %s)', (d.rng.randrange(8), region, d.text())


@operation(1, odd=True)
def odd_truncate(d, _flavour):
    yield 'INSERT INTO "Parts" (id, region, v) VALUES (%s, 0, %s) ON CONFLICT DO NOTHING', (d.rng.randrange(8), d.text())
    yield "TRUNCATE " + d.pick(('"Parts"', '"Parts 0"', '"Parts 2"', "full_rows", "swaps, only_key", SINK)), ()
    yield 'INSERT INTO "Parts" (id, region, v) VALUES (%s, 2, %s) ON CONFLICT DO NOTHING', (d.rng.randrange(8), d.text())
