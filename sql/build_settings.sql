-- Statements that give the table beside ($2) the settings which somebody made on the projection's table ($1): storage parameters,
-- settings and defaults of columns. $3: whether both are of one definition; else the fillfactor is the new module's. Those that
-- agree yield nothing.
WITH former AS (SELECT * FROM pg_catalog.pg_class WHERE oid = $1),
     beside AS (SELECT *, oid::pg_catalog.regclass AS table_name FROM pg_catalog.pg_class WHERE oid = $2),
columns AS (
    SELECT a.attname, b.table_name, a AS f, n AS n, a.attnum AS f_number, n.attnum AS n_number
    FROM beside b, pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute n
      ON n.attrelid = $2 AND n.attname = a.attname AND n.atttypid = a.atttypid AND NOT n.attisdropped AND n.attnum > 0
    WHERE a.attrelid = $1 AND NOT a.attisdropped AND a.attnum > 0
), defaults AS (
    SELECT d.adrelid, d.adnum, pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS text
    FROM pg_catalog.pg_attrdef d WHERE d.adrelid IN ($1, $2)
), options (table_name, name, value) AS (
    SELECT b.table_name, o.option_name, o.option_value
    FROM former f, beside b, pg_catalog.pg_options_to_table(f.reloptions) o
    WHERE ($3::pg_catalog.bool OR o.option_name <> 'fillfactor')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(b.reloptions) p
                      WHERE p.option_name = o.option_name AND p.option_value = o.option_value)
    UNION ALL
    SELECT b.table_name, 'toast.' || o.option_name, o.option_value
    FROM former f JOIN pg_catalog.pg_class ft ON ft.oid = f.reltoastrelid, beside b
    JOIN pg_catalog.pg_class bt ON bt.oid = b.reltoastrelid, pg_catalog.pg_options_to_table(ft.reloptions) o
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(bt.reloptions) p
                      WHERE p.option_name = o.option_name AND p.option_value = o.option_value)
)
SELECT pg_catalog.format('ALTER TABLE %s SET (%s = %L)', table_name, name, value) AS statement FROM options
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s SET TABLESPACE %I', b.table_name, s.spcname)
FROM former f, beside b, pg_catalog.pg_tablespace s
WHERE s.oid = f.reltablespace AND f.reltablespace <> b.reltablespace AND pg_catalog.pg_relation_size($2) = 0
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s SET UNLOGGED', b.table_name)
FROM former f, beside b WHERE f.relpersistence = 'u' AND b.relpersistence = 'p' AND pg_catalog.pg_relation_size($2) = 0
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s SET ACCESS METHOD %I', b.table_name, m.amname)
FROM former f, beside b, pg_catalog.pg_am m
WHERE m.oid = f.relam AND f.relam <> b.relam AND pg_catalog.pg_relation_size($2) = 0
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY %s', b.table_name,
                         CASE f.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' ELSE 'DEFAULT' END)
FROM former f, beside b WHERE f.relreplident <> b.relreplident AND f.relreplident <> 'i'
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', table_name, attname)
FROM columns WHERE (f).attnotnull AND NOT (n).attnotnull
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', table_name, attname, (f).attstattarget)
FROM columns WHERE (f).attstattarget >= 0 AND (f).attstattarget IS DISTINCT FROM (n).attstattarget
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', table_name, attname,
                         CASE (f).attstorage WHEN 'x' THEN 'EXTENDED' WHEN 'm' THEN 'MAIN' WHEN 'e' THEN 'EXTERNAL' ELSE 'PLAIN' END)
FROM columns WHERE (f).attstorage <> (n).attstorage
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', table_name, attname,
                         CASE (f).attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'default' END)
FROM columns WHERE (f).attcompression <> (n).attcompression
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET (%s = %L)', table_name, attname, o.option_name, o.option_value)
FROM columns, pg_catalog.pg_options_to_table((f).attoptions) o
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table((n).attoptions) p
                  WHERE p.option_name = o.option_name AND p.option_value = o.option_value)
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', c.table_name, c.attname, d.text)
FROM columns c JOIN defaults d ON d.adrelid = $1 AND d.adnum = c.f_number
LEFT JOIN defaults e ON e.adrelid = $2 AND e.adnum = c.n_number
WHERE (c.f).attgenerated = '' AND d.text IS DISTINCT FROM e.text
