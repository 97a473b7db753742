-- What is to be copied: the tables themselves, or the leaves of partitioned ones. $1 oid[]: the mirrored tables. Sizes in
-- blocks, rows as the planner believes (-1: unknown).
SELECT root.oid AS root, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS sql_name,
       pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int AS blocks,
       pg_catalog.current_setting('block_size')::int AS block_size,
       c.reltuples::bigint AS rows
FROM unnest($1::oid[]) AS root (oid)
JOIN pg_catalog.pg_class r ON r.oid = root.oid
CROSS JOIN LATERAL (SELECT root.oid AS relid WHERE r.relkind <> 'p'
                    UNION ALL
                    SELECT t.relid FROM pg_catalog.pg_partition_tree(root.oid) t WHERE r.relkind = 'p') AS part
JOIN pg_catalog.pg_class c ON c.oid = part.relid AND c.relkind <> 'p'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY blocks DESC
