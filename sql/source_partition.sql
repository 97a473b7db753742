-- One partition. $1 schema, $2 name. `condition` holds for exactly its rows among the root's; NULL where plain SQL cannot say
-- it on another server (hash partitions), or could not when it mattered (a default partition's changes with its sisters).
-- `ancestors`: the partitioned tables above it, "schema.name", one a line.
SELECT CASE WHEN pg_catalog.pg_get_partition_constraintdef(c.oid) !~ 'satisfies_hash_partition'
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) AS a
                                 JOIN pg_catalog.pg_partitioned_table p ON p.partdefid = a.relid)
            THEN pg_catalog.pg_get_partition_constraintdef(c.oid) END AS condition,
       (SELECT coalesce(pg_catalog.string_agg(an.nspname || '.' || ac.relname, E'\n'), '')
        FROM pg_catalog.pg_partition_ancestors(c.oid) AS a
        JOIN pg_catalog.pg_class ac ON ac.oid = a.relid
        JOIN pg_catalog.pg_namespace an ON an.oid = ac.relnamespace
        WHERE a.relid <> c.oid) AS ancestors
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relispartition
