-- Who has a lock on one of the relations ($1, an array of oids) in a transaction that is older than $2 milliseconds: the oldest first.
SELECT pg_catalog.format('pid %s (%s%s), whose transaction began %s s ago and its statement %s s ago', a.pid, coalesce(a.usename, a.backend_type),
                         CASE WHEN a.application_name <> '' THEN ', ' || a.application_name ELSE '' END,
                         pg_catalog.round(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.xact_start), 1),
                         pg_catalog.round(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.query_start), 1))
FROM pg_catalog.pg_stat_activity a
WHERE a.pid <> pg_catalog.pg_backend_pid()
  AND a.xact_start < pg_catalog.clock_timestamp() - $2::pg_catalog.float8 * interval '1 millisecond'
  AND EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
              AND l.relation = ANY ($1::pg_catalog.oid[])
              AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
ORDER BY a.xact_start LIMIT 1
