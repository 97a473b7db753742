-- Which session of a daemon's has been at one statement for the longest, and for what it waits; $1: seconds from which on it is told.
-- Whoever it is not shown of has no state, and is passed over. One that waits for the daemon's next message is not what is meant.
SELECT a.pid, a.application_name, extract(epoch FROM pg_catalog.clock_timestamp() - a.query_start) AS seconds,
       coalesce(a.wait_event_type, '') AS kind, coalesce(a.wait_event, '') AS event,
       CASE WHEN a.wait_event_type = 'Lock' THEN
           (SELECT pg_catalog.string_agg(DISTINCT coalesce(pg_catalog.format('pid %s (%s%s)', b.pid, coalesce(b.usename, b.backend_type),
                                                            ', ' || nullif(b.application_name, '')), 'a prepared transaction'), ', ')
            FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS p (pid) LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = p.pid)
       END AS holders
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = pg_catalog.current_database() AND a.application_name IN ('pgprojector apply', 'pgprojector control')
      AND a.state = 'active' AND a.wait_event_type IS DISTINCT FROM 'Client'
      AND a.query_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::float8)
ORDER BY a.query_start LIMIT 1
