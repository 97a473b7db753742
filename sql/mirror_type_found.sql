-- A type on the read database, to be held against the source's. $1: schema, $2: name, $3 text[]: the source's enum labels.
-- `labels_fit`: all of these are there, in this order (further ones do no harm).
SELECT t.typtype,
       CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END AS base,
       (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' '
                                     || pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped) AS attributes,
       coalesce((SELECT pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
                 FROM pg_catalog.pg_enum e
                 WHERE e.enumtypid = t.oid AND e.enumlabel::text = ANY ($3::text[])) = $3::text[], $3::text[] = '{}') AS labels_fit
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = $1 AND t.typname = $2
