-- What `doctor` looks at on the read database's server, in one row; $1 is the schema of unqualified tables.
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('server_version_num')::int AS version_number,
       pg_catalog.current_setting('server_encoding') AS encoding,
       pg_catalog.pg_is_in_recovery() AS standby,
       pg_catalog.current_setting('default_transaction_read_only') = 'on' AS read_only,
       current_user::text AS role,
       (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS superuser,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_sessions,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create_schema,
       pg_catalog.to_regnamespace('pgprojector') IS NOT NULL AS has_catalog,
       (SELECT n.nspowner = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
               OR pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE')
        FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgprojector') AS owns_catalog,
       (SELECT pg_catalog.has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n
        WHERE n.nspname = $1) AS may_create_tables,
       (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint AS clock_us
