-- Who has a lock on one of the relations ($1, an array of oids) in a transaction that is older than $2 milliseconds, or whose age the
-- server does not show: of other roles' sessions it shows only pid and names to whoever is no member of pg_read_all_stats. The oldest
-- first, those of unknown age last: who it is; what tells the transaction from all others; whether its age is known.
WITH holders AS (
    SELECT DISTINCT l.pid, l.virtualtransaction FROM pg_catalog.pg_locks l
    WHERE l.granted AND l.locktype = 'relation' AND l.relation = ANY ($1::pg_catalog.oid[])
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
), transactions (who, name, since) AS (
    SELECT pg_catalog.format('pid %s (%s%s), ', h.pid, coalesce(a.usename, a.backend_type, 'of another role'),
                             CASE WHEN a.application_name <> '' THEN ', ' || a.application_name ELSE '' END)
           || CASE WHEN a.xact_start IS NULL
                   THEN pg_catalog.format('the age of whose transaction is not shown to us (GRANT pg_read_all_stats TO %I)', CURRENT_USER)
                   ELSE pg_catalog.format('whose transaction began %s s ago and its statement %s s ago',
                                          pg_catalog.round(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.xact_start), 1),
                                          pg_catalog.round(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.query_start), 1)) END,
           pg_catalog.format('%s of %s', h.virtualtransaction, h.pid), a.xact_start
    FROM holders h LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid WHERE h.pid IS NOT NULL
    UNION ALL
    SELECT pg_catalog.format('the prepared transaction %L of role %I, prepared %s s ago', p.gid, p.owner,
                             pg_catalog.round(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - p.prepared), 1)), p.gid, p.prepared
    FROM holders h
    JOIN pg_catalog.pg_locks x ON x.virtualtransaction = h.virtualtransaction AND x.pid IS NULL AND x.locktype = 'transactionid'
    JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
    WHERE h.pid IS NULL
)
SELECT who, name, since IS NOT NULL AS known FROM transactions
WHERE since IS NULL OR since < pg_catalog.clock_timestamp() - $2::pg_catalog.float8 * interval '1 millisecond'
ORDER BY since NULLS LAST
