-- Who holds the daemon's advisory lock ($1, $2: its two keys), with what that daemon says of itself.
SELECT 'backend ' || a.pid || ' (' || coalesce(a.application_name, '') || coalesce(', from ' || a.client_addr::text, '') || ')'
       || coalesce(' connected since ' || pg_catalog.to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'), '')
       || coalesce((SELECT '; the last daemon to report was pid ' || d.pid || ' on host ' || d.host || ', started '
                           || pg_catalog.to_char(d.started_at, 'YYYY-MM-DD HH24:MI:SS TZ') || ', last heard of '
                           || pg_catalog.to_char(d.heartbeat_at, 'YYYY-MM-DD HH24:MI:SS TZ')
                    FROM pgprojector.daemon d), '')
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND l.classid = $1::int::oid AND l.objid = $2::int::oid
LIMIT 1
