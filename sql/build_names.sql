-- The indexes of the former table ($1) and of the new one ($2), the former's first: of which they are, their schema, their name, the name
-- of the other table's index that is alike, the comment of that one, their columns and the word at the end, as the server makes
-- names of.
WITH indexes AS (
    SELECT i.indexrelid, i.indrelid, c.relname, c.relnamespace, i.indisprimary,
           pg_catalog.replace(pg_catalog.pg_get_indexdef(i.indexrelid),
                              pg_catalog.format(' INDEX %I ON %s ', c.relname, i.indrelid::pg_catalog.regclass), ' ') AS form,
           (SELECT n.contype FROM pg_catalog.pg_constraint n WHERE n.conindid = i.indexrelid AND n.conrelid = i.indrelid) AS contype
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid IN ($1, $2)
), alike AS (
    SELECT f.indexrelid AS former, n.indexrelid AS beside
    FROM (SELECT *, pg_catalog.row_number() OVER (PARTITION BY form, contype ORDER BY indexrelid) AS turn
          FROM indexes WHERE indrelid = $1) f
    JOIN (SELECT *, pg_catalog.row_number() OVER (PARTITION BY form, contype ORDER BY indexrelid) AS turn
          FROM indexes WHERE indrelid = $2) n ON n.form = f.form AND n.contype IS NOT DISTINCT FROM f.contype AND n.turn = f.turn
)
SELECT CASE WHEN i.indrelid = $1 THEN 'former' ELSE 'new' END AS side, n.nspname AS schema, i.relname AS name,
       f.relname AS like_it, pg_catalog.obj_description(f.indexrelid, 'pg_class') AS comment,
       CASE WHEN NOT i.indisprimary THEN
           (SELECT pg_catalog.string_agg(a.attname, '_' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = i.indexrelid) END AS columns,
       CASE i.contype WHEN 'p' THEN 'pkey' WHEN 'u' THEN 'key' WHEN 'x' THEN 'excl' ELSE 'idx' END AS label
FROM indexes i JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
LEFT JOIN alike a ON i.indexrelid IN (a.beside, a.former)
LEFT JOIN indexes f ON f.indexrelid = CASE i.indexrelid WHEN a.beside THEN a.former ELSE a.beside END
ORDER BY i.indrelid = $2, i.indexrelid
