-- Indexes and constraints of the projection's table ($1) that the table beside ($2) lacks: the statement that makes it, or NULL where a
-- column it needs is not there, or is of another type; and its name, for people. Also the tablespaces of indexes that both have.
WITH indexes AS (
    SELECT i.indexrelid, i.indrelid, c.relname, s.spcname, i.indkey, i.indisprimary,
           pg_catalog.replace(pg_catalog.pg_get_indexdef(i.indexrelid),
                              pg_catalog.format(' INDEX %I ON %s ', c.relname, i.indrelid::pg_catalog.regclass), ' ') AS form,
           n.oid AS constraint_oid
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
    LEFT JOIN pg_catalog.pg_constraint n ON n.conindid = i.indexrelid AND n.conrelid = i.indrelid
    WHERE i.indrelid IN ($1, $2) AND i.indisvalid
), checks AS (
    SELECT oid, conrelid, conname, conkey, pg_catalog.pg_get_constraintdef(oid) AS form
    FROM pg_catalog.pg_constraint WHERE conrelid IN ($1, $2) AND contype = 'c'
), lacking AS (
    SELECT 'index ' || f.indexrelid::pg_catalog.regclass AS what,
           pg_catalog.format('SET default_tablespace = %L; ', coalesce(f.spcname, '')) ||
           CASE WHEN f.constraint_oid IS NULL
                THEN pg_catalog.replace(pg_catalog.pg_get_indexdef(f.indexrelid),
                                        pg_catalog.format(' INDEX %I ON %s ', f.relname, $1::pg_catalog.regclass),
                                        pg_catalog.format(' INDEX ON %s ', $2::pg_catalog.regclass))
                ELSE pg_catalog.format('ALTER TABLE %s ADD %s', $2::pg_catalog.regclass,
                                       pg_catalog.pg_get_constraintdef(f.constraint_oid)) END
           || '; RESET default_tablespace' AS statement,
           ARRAY(SELECT k FROM pg_catalog.unnest(f.indkey::pg_catalog.int2[]) k WHERE k > 0
                 UNION SELECT d.refobjsubid::pg_catalog.int2 FROM pg_catalog.pg_depend d
                 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = f.indexrelid
                   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1 AND d.refobjsubid > 0)
               AS columns
    FROM indexes f
    WHERE f.indrelid = $1 AND NOT f.indisprimary
      AND NOT EXISTS (SELECT FROM indexes n WHERE n.indrelid = $2 AND n.form = f.form
                      AND (n.constraint_oid IS NOT NULL OR f.constraint_oid IS NULL))
    UNION ALL
    SELECT 'tablespace of index ' || f.indexrelid::pg_catalog.regclass,
           pg_catalog.format('ALTER INDEX %s SET TABLESPACE %I', pg_catalog.min(n.indexrelid::pg_catalog.oid)::pg_catalog.regclass, f.spcname), NULL
    FROM indexes f JOIN indexes n ON f.indrelid = $1 AND n.indrelid = $2 AND n.form = f.form
    WHERE f.spcname IS NOT NULL GROUP BY f.indexrelid, f.spcname HAVING pg_catalog.bool_and(f.spcname IS DISTINCT FROM n.spcname)
    UNION ALL
    SELECT 'constraint ' || pg_catalog.quote_ident(f.conname),
           pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2::pg_catalog.regclass, f.conname, f.form), f.conkey
    FROM checks f
    WHERE f.conrelid = $1 AND NOT EXISTS (SELECT FROM checks n WHERE n.conrelid = $2 AND n.form = f.form)
)
SELECT what, CASE WHEN NOT EXISTS (
    SELECT FROM pg_catalog.unnest(columns) AS k JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = k
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute n WHERE n.attrelid = $2 AND n.attname = a.attname
                      AND n.atttypid = a.atttypid AND NOT n.attisdropped)) THEN statement END AS statement
FROM lacking ORDER BY 1
