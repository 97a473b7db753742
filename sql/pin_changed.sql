-- Of tables ($1, quoted and qualified) that this transaction locked after its snapshot had been taken: one that is not any
-- more what the snapshot shows: emptied, rewritten, replaced by another of its name, a partition taken away. The catalog as
-- the snapshot shows it is read as tables; functions on it answer as of now.
WITH RECURSIVE named AS (
    SELECT t.name, pg_catalog.to_regclass(t.name)::oid AS oid FROM pg_catalog.unnest($1::text[]) AS t (name)
), shown AS (
    SELECT n.name, n.oid AS root, c.oid, c.relfilenode
    FROM named n JOIN pg_catalog.pg_class c ON c.oid = n.oid JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
    WHERE ARRAY[s.nspname, c.relname]::text[] = pg_catalog.parse_ident(n.name)
    UNION ALL
    SELECT p.name, p.root, c.oid, c.relfilenode
    FROM shown p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT n.name FROM named n WHERE NOT EXISTS (SELECT FROM shown s WHERE s.name = n.name)
UNION ALL
SELECT s.name FROM shown s
WHERE s.relfilenode <> coalesce(pg_catalog.pg_relation_filenode(s.oid), 0)
      OR (s.oid <> s.root AND pg_catalog.pg_partition_root(s.oid) IS DISTINCT FROM s.root::pg_catalog.regclass)
LIMIT 1
