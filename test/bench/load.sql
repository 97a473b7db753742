-- The load, as procedures of the write database that commit after each transaction: a writer then costs no round trips, and
-- a few of them record hundreds of thousands of separate transactions in seconds. All choices follow from setseed(), so the
-- same call makes the same ones (ids of messages and the interleaving of writers aside).
CREATE SCHEMA bench;

-- The n-th user, conversation, tenant: ids that look as random as version 4 ones, but can be computed.
CREATE FUNCTION bench.id(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT md5(kind || n)::uuid $$;

-- Member m (1 to 10) of a conversation, as base data has them.
CREATE FUNCTION bench.member(conversation bigint, m bigint, users bigint) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT bench.id('user', 1 + (conversation * 7 + m * 991) % users) $$;

CREATE TABLE bench.size (users bigint, conversations bigint);
CREATE SEQUENCE bench.number CACHE 1000;

-- Zipfian choice (exponent 1) of a conversation: 65,536 slips, each naming one; a writer draws one slip evenly. How busy a
-- conversation is has nothing to do with its number, so that busy ones are not neighbours in the tables.
CREATE TABLE bench.slip (n integer PRIMARY KEY, conversation bigint NOT NULL);

CREATE PROCEDURE bench.make_slips(conversations bigint) LANGUAGE sql AS $$
    WITH share AS (
        SELECT n, sum(1.0::float8 / n) OVER (ORDER BY n) / sum(1.0::float8 / n) OVER () AS upto FROM generate_series(1, conversations) n
    ), bounds AS (
        SELECT n, ceil(65536 * coalesce(lag(upto) OVER (ORDER BY n), 0))::int AS first, ceil(65536 * upto)::int - 1 AS last FROM share
    )
    INSERT INTO bench.slip SELECT slip, 1 + n * 7919 % conversations FROM bounds, generate_series(first, least(last, 65535)) slip
$$;

-- Base data: conversations with ten members each and `history` messages over the last 30 days, zipfian as under load, every
-- 50th of them deleted softly. last_read_at: of ten members one never read (NULL), seven are up to date (they read within
-- the last hour), two stopped at some moment of the last 30 days.
CREATE PROCEDURE bench.base(users bigint, conversations bigint, history bigint) LANGUAGE plpgsql AS $$
DECLARE
    start timestamptz := now();
BEGIN
    PERFORM setseed(0.42);
    INSERT INTO bench.size VALUES (users, conversations);
    CALL bench.make_slips(conversations);
    INSERT INTO public.users SELECT bench.id('user', n), 'user' || n, 'User number ' || n FROM generate_series(1, users) n;
    INSERT INTO public.conversations
        SELECT bench.id('conversation', n), bench.id('tenant', n % 20), 'Conversation ' || n,
               CASE WHEN n % 3 = 0 THEN 'direct' ELSE 'group' END, start - interval '31 days', start - interval '31 days'
        FROM generate_series(1, conversations) n;
    INSERT INTO public.user_conversations
        SELECT bench.member(n, m, users), bench.id('conversation', n), start - interval '31 days',
               CASE WHEN m = 1 THEN NULL WHEN m <= 8 THEN start - random() * interval '1 hour'
                    ELSE start - random() * interval '30 days' END
        FROM generate_series(1, conversations) n, generate_series(1, 10) m;
    INSERT INTO public.messages
        SELECT gen_random_uuid(), bench.id('conversation', s.conversation), bench.member(s.conversation, 1 + h.n % 10, users),
               h.n, 'client-' || h.n, 'Message number ' || h.n || ' of the history, about as long as people write.',
               start - (history - h.n) * interval '30 days' / history, CASE WHEN h.n % 50 = 0 THEN start END
        FROM generate_series(1, history) h(n) JOIN bench.slip s ON s.n = (h.n * 40503) % 65536;
    PERFORM setval('bench.number', history + 1000);
END $$;

-- One message and its conversation's updated_at.
CREATE PROCEDURE bench.send(message uuid, room uuid, sender uuid, number bigint) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.messages VALUES (message, room, sender, number, 'client-' || number,
        'Message number ' || number || ', about as long as people write.', clock_timestamp(), NULL);
    UPDATE public.conversations SET updated_at = clock_timestamp() WHERE id = room;
END $$;

-- n transactions, each a message.
CREATE PROCEDURE bench.message(n bigint, seed double precision) LANGUAGE plpgsql AS $$
DECLARE
    slips bigint[] := ARRAY(SELECT conversation FROM bench.slip ORDER BY slip.n);
    users bigint := (SELECT s.users FROM bench.size s);
    room  bigint;
    number bigint;
BEGIN
    SET synchronous_commit = off;    -- the WAL is what counts here, not when it reaches the disk
    PERFORM setseed(seed);
    FOR i IN 1 .. n LOOP
        room := slips[1 + floor(random() * 65536)::int];
        number := nextval('bench.number');
        CALL bench.send(gen_random_uuid(), bench.id('conversation', room), bench.member(room, 1 + i % 10, users), number);
        COMMIT;
    END LOOP;
END $$;

-- n transactions: 80 % messages, 5 % soft and 3 % hard deletes (of one of this writer's last 1,000 messages), 7 % last_read_at
-- (to now), 3 % titles, 2 % leaves and joins.
CREATE PROCEDURE bench.mixed(n bigint, seed double precision) LANGUAGE plpgsql AS $$
DECLARE
    slips  bigint[] := ARRAY(SELECT conversation FROM bench.slip ORDER BY slip.n);
    users  bigint := (SELECT s.users FROM bench.size s);
    recent uuid[] := array_fill(NULL::uuid, ARRAY[1000]);
    room   bigint;
    room_id uuid;
    number bigint;
    dice   double precision;
    victim uuid;
    stranger uuid;
BEGIN
    SET synchronous_commit = off;
    PERFORM setseed(seed);
    FOR i IN 1 .. n LOOP
        room := slips[1 + floor(random() * 65536)::int];
        room_id := bench.id('conversation', room);
        dice := random();
        victim := recent[1 + floor(random() * 1000)::int];
        stranger := bench.id('user', 1 + floor(random() * users)::bigint);
        IF dice < 0.80 THEN
            number := nextval('bench.number');
            recent[1 + i % 1000] := gen_random_uuid();
            CALL bench.send(recent[1 + i % 1000], room_id, bench.member(room, 1 + i % 10, users), number);
        ELSIF dice < 0.85 THEN
            UPDATE public.messages SET deleted_at = clock_timestamp() WHERE id = victim;
        ELSIF dice < 0.88 THEN
            DELETE FROM public.messages WHERE id = victim;
        ELSIF dice < 0.95 THEN
            UPDATE public.user_conversations SET last_read_at = clock_timestamp()
                WHERE conversation_id = room_id AND user_id = bench.member(room, 1 + i % 10, users);
        ELSIF dice < 0.98 THEN
            UPDATE public.conversations SET title = 'Renamed ' || i WHERE id = room_id;
        ELSIF dice < 0.99 THEN
            DELETE FROM public.user_conversations
                WHERE conversation_id = room_id AND user_id = bench.member(room, 1 + i % 10, users);
        ELSE
            INSERT INTO public.user_conversations
                VALUES (stranger, room_id, clock_timestamp(), clock_timestamp())
                ON CONFLICT DO NOTHING;
        END IF;
        COMMIT;
    END LOOP;
END $$;

-- One transaction of n messages.
CREATE PROCEDURE bench.bigtx(n bigint, seed double precision) LANGUAGE plpgsql AS $$
DECLARE
    start bigint := nextval('bench.number') + 1000000;
BEGIN
    INSERT INTO public.messages
        SELECT gen_random_uuid(), bench.id('conversation', s.conversation), bench.member(s.conversation, 1 + h.n % 10, z.users),
               start + h.n, 'client-' || h.n, 'Message number ' || h.n || ', about as long as people write.',
               clock_timestamp(), NULL
        FROM generate_series(1, n) h(n) JOIN bench.slip s ON s.n = (h.n * 40503) % 65536, bench.size z;
END $$;

-- One transaction of the paced load: what `pgbench -R` calls. A call is one round trip and one commit.
CREATE PROCEDURE bench.one(drawn integer) LANGUAGE plpgsql AS $$
DECLARE
    room  bigint := (SELECT conversation FROM bench.slip WHERE n = drawn);
    users bigint := (SELECT s.users FROM bench.size s);
BEGIN
    CALL bench.send(gen_random_uuid(), bench.id('conversation', room), bench.member(room, 1 + drawn % 10, users),
                    nextval('bench.number'));
END $$;

-- The message that ends a recording.
CREATE PROCEDURE bench.mark(message uuid) LANGUAGE plpgsql AS $$
DECLARE
    users bigint := (SELECT s.users FROM bench.size s);
BEGIN
    CALL bench.send(message, bench.id('conversation', 1), bench.member(1, 1, users), nextval('bench.number'));
END $$;

-- A message of the probe (probe.c): in the given conversation, or in one drawn as under load.
CREATE PROCEDURE bench.probe(number bigint, sender uuid, room uuid) LANGUAGE plpgsql AS $$
DECLARE
    drawn integer := floor(random() * 65536);
BEGIN
    IF room IS NULL THEN
        room := bench.id('conversation', (SELECT conversation FROM bench.slip WHERE n = drawn));
    END IF;
    CALL bench.send(gen_random_uuid(), room, sender, number);
END $$;

-- A group: one conversation with many members, all of whom have read everything so far.
CREATE PROCEDURE bench.group(room uuid, members bigint) LANGUAGE sql AS $$
    INSERT INTO public.conversations VALUES (room, bench.id('tenant', 0), 'The big group', 'group', now(), now());
    INSERT INTO public.users SELECT bench.id('group user', n), 'group' || n, NULL FROM generate_series(1, members) n;
    INSERT INTO public.user_conversations SELECT bench.id('group user', n), room, now(), now() FROM generate_series(1, members) n;
$$;
