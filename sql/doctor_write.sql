-- What `doctor` looks at on the write database's server, in one row.
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('server_version_num')::int AS version_number,
       pg_catalog.current_setting('wal_level') AS wal_level,
       pg_catalog.current_setting('server_encoding') AS encoding,
       p.libraries,
       p.libraries ~ '(^|,)\s*(wal2json|"wal2json")\s*(,|$)' AS libraries_fit,
       pg_catalog.current_setting('max_replication_slots')::int
           - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS spare_slots,
       pg_catalog.current_setting('max_replication_slots')::int AS max_slots,
       pg_catalog.current_setting('max_wal_senders')::int - (SELECT pg_catalog.count(*)
           FROM pg_catalog.pg_stat_activity a WHERE a.backend_type = 'walsender') AS spare_senders,
       pg_catalog.current_setting('max_wal_senders')::int AS max_senders,
       current_user::text AS role,
       (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS superuser,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_sessions,
       (SELECT r.rolreplication OR r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS replication,
       pg_catalog.current_setting('max_slot_wal_keep_size', true) AS keep_size,
       (SELECT s.setting::int FROM pg_catalog.pg_settings s WHERE s.name = 'wal_sender_timeout') AS sender_timeout_ms,
       pg_catalog.pg_is_in_recovery() AS standby,
       (SELECT pg_catalog.string_agg(p.gid, ', ' ORDER BY p.prepared) FROM pg_catalog.pg_prepared_xacts p
        WHERE p.prepared < pg_catalog.now() - interval '1 minute') AS prepared,
       (SELECT pg_catalog.string_agg(pg_catalog.format('pid %s (%s, %s)', a.pid, a.usename,
                   pg_catalog.date_trunc('second', pg_catalog.now() - a.xact_start)), ', ' ORDER BY a.xact_start)
        FROM pg_catalog.pg_stat_activity a
        WHERE a.backend_xid IS NOT NULL AND a.xact_start < pg_catalog.now() - interval '1 minute') AS open_transactions,
       (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint AS clock_us
-- NULL on a server without the setting, and for a role that may not read it; creating the slot then tells
FROM (SELECT (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'output_plugin_libraries') AS libraries) p
