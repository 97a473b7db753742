-- Whom the CREATE INDEX CONCURRENTLY of the session with pid $1 waits for; no row where it does not wait. A prepared transaction has no pid.
SELECT coalesce((SELECT pg_catalog.format('pid %s (%s%s)', a.pid, coalesce(a.usename, a.backend_type),
                                          CASE WHEN a.application_name <> '' THEN ', ' || a.application_name ELSE '' END)
                        || coalesce(', in a transaction since ' || pg_catalog.to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS'), '')
                 FROM pg_catalog.pg_stat_activity a WHERE a.pid = p.current_locker_pid),
                (SELECT pg_catalog.format('the prepared transaction "%s" of %s', x.gid, pg_catalog.to_char(x.prepared, 'YYYY-MM-DD HH24:MI:SS'))
                 FROM pg_catalog.pg_prepared_xacts x WHERE x.database = pg_catalog.current_database() ORDER BY x.prepared LIMIT 1),
                'older transactions')
FROM pg_catalog.pg_stat_progress_create_index p WHERE p.pid = $1::pg_catalog.int4 AND pg_catalog.starts_with(p.phase, 'waiting for')
