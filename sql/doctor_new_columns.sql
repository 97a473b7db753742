-- The columns of a mirror as the catalog has them; $1 schema, $2 table. No row where it is not mirrored yet.
SELECT pg_catalog.array_to_json(columns)::text FROM pgprojector.mirror WHERE schema_name = $1 AND table_name = $2
