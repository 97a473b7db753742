-- What streaming needs of the write database's server, in one row; see pj_source_check.
SELECT pg_catalog.current_setting('wal_level') AS wal_level,
       pg_catalog.current_setting('server_encoding') AS encoding,
       (SELECT r.rolreplication OR r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS may_replicate,
       current_user::text AS role,
       pg_catalog.current_setting('max_replication_slots')::int AS max_slots,
       -- a slot that may be ours is no obstacle
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots s
        WHERE NOT (s.plugin IS NOT DISTINCT FROM 'wal2json' AND s.database = pg_catalog.current_database()
                   AND s.slot_name LIKE 'pgprojector%')) AS slots,
       pg_catalog.current_setting('max_wal_senders')::int AS max_senders,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
        WHERE a.backend_type = 'walsender' AND a.application_name NOT LIKE 'pgprojector%') AS senders,
       p.libraries,
       -- one pair of quotes round the whole list is one bogus name: not a match
       p.libraries ~ '(^|,)\s*(wal2json|"wal2json")\s*(,|$)' AS libraries_fit
-- NULL on a server without the setting, and for a role that may not read it; creating the slot then tells
FROM (SELECT (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'output_plugin_libraries') AS libraries) p
