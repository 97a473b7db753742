-- The projections for `status --json`, as a JSON array. `reason` is not there in a catalog of an earlier version; a projection that was
-- removed may have lost its table, and is still known.
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'name', name,
           'schema', CASE WHEN has_table THEN target_schema END,
           'table', CASE WHEN has_table THEN target_table END,
           'state', state,
           'version', module_version,
           'reason', pg_catalog.to_jsonb(p) ->> 'reason',
           'since', pg_catalog.to_char(since, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           'deadLetters', (SELECT pg_catalog.count(*) FROM pgprojector.dead_letter d WHERE d.projection = p.name),
           'dirtyKeys', (SELECT pg_catalog.count(*) FROM pgprojector.dirty_key k WHERE k.projection = p.name)) ORDER BY name), '[]')
FROM (SELECT *, state <> 'retired' OR EXISTS (
          SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE (n.nspname, c.relname) = (target_schema, target_table)) AS has_table
      FROM pgprojector.projection) p
