-- The catalog of pgprojector on the read database. Run as one transaction by each start that does not find it so already:
-- creates what is missing, changes nothing that is there. Owned by whoever runs `pgprojector init` (or the first `run`).

CREATE SCHEMA IF NOT EXISTS pgprojector;

-- One row. What `lsn` says and the data it speaks for are committed in one transaction.
CREATE TABLE IF NOT EXISTS pgprojector.checkpoint (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    instance      text NOT NULL,              -- this read database's id; part of the default slot name
    slot          text,                       -- the slot's name; set (the intent) and committed before it is created
    lsn           pg_lsn,                     -- end LSN of the last applied commit; NULL until the first start is complete
    system_id     text,                       -- the write database: pg_control's system identifier
    timeline      integer,
    database      text,                       -- the write database's name
    epoch         bigint NOT NULL DEFAULT 0,  -- raised by each daemon that takes over; an older one changes no row
    witness_xid   bigint,                     -- the last applied transaction: xid, end LSN, commit time. It is sent again
    witness_lsn   pg_lsn,                     --   after a reconnect unless confirmed_flush has passed it
    witness_time  timestamptz,
    backend_pid   integer,                    -- the backend that applies, to be ended before an unknown outcome is read
    backend_start timestamptz,
    applied_at    timestamptz                 -- when `lsn` was written, by the read database's clock
) WITH (fillfactor = 10);
INSERT INTO pgprojector.checkpoint (instance)
    SELECT substr(md5(random()::text || clock_timestamp()::text), 1, 12)
    WHERE NOT EXISTS (SELECT FROM pgprojector.checkpoint);

-- One row per mirrored source table.
CREATE TABLE IF NOT EXISTS pgprojector.mirror (
    schema_name text NOT NULL,                -- of the source table, and of the mirror
    table_name  text NOT NULL,
    source_oid  oid NOT NULL,
    columns     text[] NOT NULL,              -- the mirrored columns, in the source's order
    types       text[] NOT NULL,              -- their types as SQL
    key         text[] NOT NULL,              -- primary key
    identity    text[] NOT NULL,              -- replica identity (the primary key under REPLICA IDENTITY FULL)
    leaves      oid[] NOT NULL DEFAULT '{}',  -- the partitions that held rows, of a partitioned source
    PRIMARY KEY (schema_name, table_name)
);

-- One row per projection with a target.
CREATE TABLE IF NOT EXISTS pgprojector.projection (
    name           text PRIMARY KEY,
    module_version bigint NOT NULL,
    target_schema  text NOT NULL,
    target_table   text NOT NULL,
    key            text[] NOT NULL,
    definition     text NOT NULL,             -- md5 of the definition as built
    state          text NOT NULL CHECK (state IN ('building', 'live', 'paused', 'failing', 'retired')),
    since          timestamptz NOT NULL DEFAULT now()
);

-- The source's numbers of the mirrored columns: one dropped and added again has another. NULL: made by an earlier version.
ALTER TABLE pgprojector.mirror ADD COLUMN IF NOT EXISTS numbers integer[];

-- The names under which these partitions come in the stream, each as "oid schema.name", quoted. NULL: made by an earlier version.
ALTER TABLE pgprojector.mirror ADD COLUMN IF NOT EXISTS leaf_names text[];

-- Up to this position of the source rows of a partition may come under a name that it had before it was noted. NULL: none may.
ALTER TABLE pgprojector.mirror ADD COLUMN IF NOT EXISTS renamed_until pg_lsn;

-- What the daemon keeps in memory of the two tables below has this number; whoever changes them raises it, under the
-- checkpoint row's lock, and the daemon, whose every transaction asks for the number it knows, reads them again.
ALTER TABLE pgprojector.checkpoint ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 0;

-- Which modules keep which tables, in a number: a swap, a removal, a registration raises it, together with `version`. A setup
-- remembers the one it was made for, and the daemon applies nothing with a setup made for another.
ALTER TABLE pgprojector.checkpoint ADD COLUMN IF NOT EXISTS roster bigint NOT NULL DEFAULT 0;

-- When a resync was begun that is not complete: the slot, if there is one, is not the one that `lsn` belongs to, whatever
-- it looks like, and is made anew by the next resync. Committed before the former slot is dropped.
ALTER TABLE pgprojector.checkpoint ADD COLUMN IF NOT EXISTS resync_at timestamptz;

-- Why the daemon paused a projection; NULL where somebody did, or it is not paused.
ALTER TABLE pgprojector.projection ADD COLUMN IF NOT EXISTS reason text;

-- Its apply() has crashed, or not returned: while the projection is not live it is not called, and the keys of changed rows are noted
-- without it. Resuming forgets it.
ALTER TABLE pgprojector.projection ADD COLUMN IF NOT EXISTS apply_off boolean NOT NULL DEFAULT false;

-- Modules whose apply() has crashed, or not returned: while their file and section are these, no table is built by them unless
-- somebody asks for it.
CREATE TABLE IF NOT EXISTS pgprojector.guilty_module (
    name  text PRIMARY KEY,
    mark  text NOT NULL,                      -- a digest of file and section
    what  text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Keys that a projection could not take. The target shows their last good rows; their deltas are withheld.
CREATE TABLE IF NOT EXISTS pgprojector.dead_letter (
    projection  text NOT NULL REFERENCES pgprojector.projection (name) ON DELETE CASCADE,
    key         text NOT NULL,                -- the routing key, as text
    sqlstate    text NOT NULL,
    message     text NOT NULL,                -- without row values
    first_lsn   pg_lsn NOT NULL,              -- the transaction with which it was parked
    last_lsn    pg_lsn NOT NULL,              -- where the last attempt stood
    attempts    integer NOT NULL DEFAULT 1,
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_try_at timestamptz,                  -- NULL: no more by itself
    PRIMARY KEY (projection, key)
);

-- Keys of projections that are not live, touched meanwhile: a log, appended to by each batch, emptied when they are
-- recomputed. One element of `key` is a routing key, all key columns one row; NULL: everything.
CREATE TABLE IF NOT EXISTS pgprojector.dirty_key (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    projection text NOT NULL,
    key        text[]
);
CREATE INDEX IF NOT EXISTS dirty_key_projection ON pgprojector.dirty_key (projection, id);
CREATE INDEX IF NOT EXISTS dirty_key_everything ON pgprojector.dirty_key (projection, id) WHERE key IS NULL;

-- Whether a mirror is kept exact by the stream, or is still being added (core/joining.h): then it is of no use to readers.
ALTER TABLE pgprojector.mirror ADD COLUMN IF NOT EXISTS state text NOT NULL DEFAULT 'exact'
    CHECK (state IN ('exact', 'joining'));

-- Rows of mirrors that are joining, changed meanwhile: a log, as dirty_key. `identity`: the replica identity's columns as
-- text; NULL: all rows.
CREATE TABLE IF NOT EXISTS pgprojector.dirty_row (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    identity    text[]
);
CREATE INDEX IF NOT EXISTS dirty_row_table ON pgprojector.dirty_row (schema_name, table_name, id);

-- Tables that were mirrors until a module was removed with its table, or were kept until a further swap, and are yet to be
-- dropped: when nobody has them open any more.
CREATE TABLE IF NOT EXISTS pgprojector.discarded (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);

-- Tables of [mirrors] tables that could not be mirrored when the daemon looked last (at its start, on SIGHUP), and why.
CREATE TABLE IF NOT EXISTS pgprojector.unfit_mirror (
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    reason      text NOT NULL,
    hint        text NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);

-- Long work of a command (rebuild, resume), for others to look at. The row goes when the work is over; one whose backend
-- is gone was interrupted.
CREATE TABLE IF NOT EXISTS pgprojector.job (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,                 -- rebuild, resume
    name       text NOT NULL,                 -- the projection
    phase      text NOT NULL,
    done       bigint NOT NULL DEFAULT 0,     -- keys of this phase
    total      bigint,                        -- NULL: not known yet
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    phase_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    pid        integer NOT NULL DEFAULT pg_backend_pid()
);

-- Asked to be given up by somebody else than who does it.
ALTER TABLE pgprojector.job ADD COLUMN IF NOT EXISTS cancelled boolean NOT NULL DEFAULT false;

-- What commands ask of the daemon (NOTIFY pgprojector, 'request'), one after the other, and what came of it. Rows that have ended
-- stay for a day.
CREATE TABLE IF NOT EXISTS pgprojector.request (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('build', 'rollback', 'remove', 'reload')),
    name         text NOT NULL,               -- the module; '' for a reload
    options      jsonb NOT NULL DEFAULT '{}',
    state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    cancelled    boolean NOT NULL DEFAULT false, -- asked to be given up while it runs
    code         text NOT NULL DEFAULT '',    -- of a failure, such as PJ_ECONFIG; message and remedy
    message      text NOT NULL DEFAULT '',
    hint         text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at     timestamptz
);
-- What was asked for stands: set by the transaction that made it so (the swap). Begun again, only tidying up is left.
ALTER TABLE pgprojector.request ADD COLUMN IF NOT EXISTS committed boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX IF NOT EXISTS request_one_a_name ON pgprojector.request (name) WHERE state IN ('waiting', 'running');

-- What the running (or last) daemon says of itself; rewritten about once a second, in a session of its own.
CREATE TABLE IF NOT EXISTS pgprojector.daemon (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    pid          integer NOT NULL,
    host         text NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    state        text NOT NULL,               -- starting, snapshot, streaming, waiting, halted, stopping, stopped
    message      text NOT NULL DEFAULT '',    -- the reason of waiting or halted, or the progress of a snapshot
    hint         text NOT NULL DEFAULT '',
    figures      jsonb NOT NULL DEFAULT '{}'  -- counters and positions; see `pgprojector status --json`
) WITH (fillfactor = 10);

-- A verifier's request that apply stand still at one commit of the write database for a moment (at most one row at a
-- time is served). Steps: requested -> held -> advance (target set by the verifier) -> reached -> (row deleted).
CREATE TABLE IF NOT EXISTS pgprojector.fence (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state        text NOT NULL DEFAULT 'requested'
                 CHECK (state IN ('requested', 'held', 'advance', 'reached', 'expired')),
    target       pg_lsn,                      -- apply exactly the transactions whose end LSN is <= target
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Fails where a statement did not find the one row it was meant for: another daemon has taken over, or a command has changed
-- what the daemon holds in memory. With this the whole transaction fails, whatever of it has been sent already. The class
-- (serialization failure) says that it is worth trying again.
CREATE OR REPLACE FUNCTION pgprojector.demand_one(rows_found bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = '' AS $$
BEGIN
    IF rows_found IS DISTINCT FROM 1 THEN
        RAISE EXCEPTION 'the catalog has changed; reading it again' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN true;
END $$;

-- The source LSN up to which the read side shows the write database; NULL before the first start is complete.
-- Types: returns pg_lsn. Works on standbys.
CREATE OR REPLACE FUNCTION pgprojector.applied_lsn() RETURNS pg_lsn
LANGUAGE sql STABLE SET search_path = '' AS $$ SELECT lsn FROM pgprojector.checkpoint $$;
COMMENT ON FUNCTION pgprojector.applied_lsn() IS
    'Source LSN up to which this database shows the write database; NULL before the first start is complete';

-- Waits until the read side shows what the write database had committed at `target` (taken there with
-- pg_current_wal_insert_lsn() after the commit). Returns true as soon as it does, false when `timeout` is over.
-- Polls, writes nothing, works on standbys. Needs READ COMMITTED, for under a fixed snapshot it could never see progress.
CREATE OR REPLACE FUNCTION pgprojector.wait_for(target pg_lsn, timeout interval DEFAULT '10 seconds') RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = '' AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + timeout;
    pause    double precision := 0.0005;
BEGIN
    IF target IS NULL THEN
        RAISE EXCEPTION 'pgprojector.wait_for: the LSN to wait for is NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF timeout IS NULL THEN
        RAISE EXCEPTION 'pgprojector.wait_for: the timeout is NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'pgprojector.wait_for needs READ COMMITTED, this transaction is %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state',
                  HINT = 'call it before the transaction, or begin it with ISOLATION LEVEL READ COMMITTED';
    END IF;
    LOOP
        IF pgprojector.applied_lsn() >= target THEN
            RETURN true;
        END IF;
        IF clock_timestamp() >= deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_catalog.pg_sleep(pause);
        pause := least(pause * 1.5, 0.02);
    END LOOP;
END $$;
COMMENT ON FUNCTION pgprojector.wait_for(pg_lsn, interval) IS
    'Waits until this database shows the write database at the given LSN; false on timeout';

GRANT USAGE ON SCHEMA pgprojector TO PUBLIC;
GRANT SELECT ON pgprojector.checkpoint TO PUBLIC;
