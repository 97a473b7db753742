-- What keeps a new slot from its consistent point: transactions that were open when it was asked for, in any database, the
-- prepared ones included. The oldest first, three at most. $1: the pid of the waiting walsender (0: unknown). $2: only those that
-- have been open for longer than so many milliseconds (0: all).
SELECT 'pid ' || a.pid || ' (' || coalesce(nullif(a.application_name, ''), 'no application_name')
       || coalesce(', user ' || a.usename, '') || coalesce(', database ' || a.datname, '') || ', ' || coalesce(a.state, 'state unknown')
       || '), transaction open for '
       || coalesce(pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)::text, 'an unknown time')
       || ', last query began ' || coalesce(pg_catalog.to_char(a.query_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'at an unknown time') AS blocker,
       a.xact_start AS since
FROM pg_catalog.pg_stat_activity a
WHERE a.backend_xid IS NOT NULL AND a.pid <> $1::int
      AND ($2::int = 0 OR a.xact_start < pg_catalog.clock_timestamp() - $2::int * interval '1 millisecond')
UNION ALL
SELECT 'prepared transaction ''' || p.gid || ''' of ' || p.owner || ' in database ' || p.database || ', prepared '
       || pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - p.prepared) || ' ago', p.prepared
FROM pg_catalog.pg_prepared_xacts p
WHERE $2::int = 0 OR p.prepared < pg_catalog.clock_timestamp() - $2::int * interval '1 millisecond'
ORDER BY 2 NULLS LAST
LIMIT 3
