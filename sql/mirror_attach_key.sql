-- The statement that makes a mirror's unique index its primary key, under the name that the server would have given it. $1: the
-- mirror, quoted and qualified.
SELECT pg_catalog.format('SET LOCAL client_min_messages = warning; ALTER TABLE %s ADD CONSTRAINT %I PRIMARY KEY USING INDEX %I', $1::text,
                         CASE WHEN taken.oid IS NULL THEN wanted.name ELSE i.relname::text END, i.relname)
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
CROSS JOIN LATERAL (SELECT pg_catalog.left(t.relname::text, 58) || '_pkey' AS name) AS wanted
LEFT JOIN pg_catalog.pg_class taken ON taken.relnamespace = t.relnamespace AND taken.relname = wanted.name::name
WHERE x.indrelid = pg_catalog.to_regclass($1::text) AND x.indisunique AND NOT x.indisprimary
