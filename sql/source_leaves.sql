-- The leaves of partitioned tables. $1 oid[]: the roots. `identity` is the leaf's replica identity in a form that can be
-- compared: FULL, NOTHING, or the identity's columns in alphabetical order. `attached` tells a table that became the root's
-- after it was made: its earlier rows never came as the root's. Then it is older than its inheritance, or that is older than an
-- inheritance above it (a partitioned table was attached with all its leaves). When a table was made, and by which transaction
-- (`made_by`), its system columns tell, which nothing changes. Its row type takes part in a new name, schema or owner: `touched`
-- tells one that may have had another name. `as_of`: the names are of then, or later.
SELECT root.oid AS root, c.oid, n.nspname, c.relname, c.relkind, c.relpersistence,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS selectable,
       CASE c.relreplident
           WHEN 'f' THEN 'FULL'
           WHEN 'n' THEN 'NOTHING'
           ELSE coalesce((SELECT pg_catalog.string_agg('"' || pg_catalog.replace(a.attname::text, '"', '""') || '"', ', '
                                                      ORDER BY a.attname COLLATE "C")
                          FROM pg_catalog.pg_index i
                          CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                          WHERE i.indrelid = c.oid AND i.indisvalid AND k.place <= i.indnkeyatts
                                AND CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate
                                                        ELSE i.indisreplident END), 'NOTHING')
       END AS identity,
       made.xmin::text AS made_by,
       EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = c.reltype AND t.xmin::text <> made.xmin::text) AS touched,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_insert_lsn() END AS as_of,
       EXISTS (SELECT FROM pg_catalog.pg_inherits h
               WHERE h.inhrelid = c.oid AND (h.xmin::text <> made.xmin::text OR EXISTS
                   (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) AS above (oid)
                    JOIN pg_catalog.pg_inherits u ON u.inhrelid = above.oid
                    WHERE (u.xmin::text::bigint - h.xmin::text::bigint) & 4294967295 BETWEEN 1 AND 2147483647))) AS attached
FROM unnest($1::oid[]) AS root (oid)
CROSS JOIN LATERAL pg_catalog.pg_partition_tree(root.oid) AS tree
JOIN pg_catalog.pg_class c ON c.oid = tree.relid AND c.relkind <> 'p'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute made ON made.attrelid = c.oid AND made.attnum = -1
ORDER BY root.oid, c.oid
