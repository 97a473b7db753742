-- The wanted tables of the write database, as they are now. One row for each of them, in the order wanted.
-- $1 text[]: schemas, $2 text[]: names. Columns are read by name in core/source_tables.c.
WITH wanted AS (
    SELECT w.ordinal, w.schema_name, w.table_name, n.oid AS namespace, c.oid, c.relkind, c.relpersistence, c.relreplident,
           c.relispartition
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (schema_name, table_name, ordinal)
    LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema_name
    LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
)
SELECT w.oid, w.relkind, w.relpersistence, w.relreplident,
       CASE WHEN w.relispartition THEN pg_catalog.pg_partition_root(w.oid)::oid END AS root,
       pg_catalog.has_schema_privilege(w.namespace, 'USAGE') AS schema_usable,
       pg_catalog.has_table_privilege(w.oid, 'SELECT') AS selectable,
       pg_catalog.row_security_active(w.oid) AS row_security,
       pk.indexrelid IS NOT NULL AS has_key,
       pk.indimmediate AS key_immediate,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = w.oid AND i.indisreplident AND i.indisvalid) AS has_identity_index
FROM wanted w
LEFT JOIN pg_catalog.pg_index pk ON pk.indrelid = w.oid AND pk.indisprimary
ORDER BY w.ordinal
