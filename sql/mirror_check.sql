-- A mirror as it is on the read database. $1: schema, $2: name. One row a column, with its place in the primary key.
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_sql,
       a.attnotnull AND NOT a.atthasdef AS demanded, a.attgenerated <> '' AS generated,
       pg_catalog.array_position(pk.indkey::int2[], a.attnum) AS key_place,
       coalesce(pk.indnkeyatts, 0) AS key_count
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_index pk ON pk.indrelid = c.oid AND pk.indisprimary AND pk.indimmediate AND pk.indisvalid
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r'
ORDER BY a.attnum
