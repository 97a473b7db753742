-- Statements that give the table beside ($2) the owner, the grants and the comments of the projection's table ($1); and what was set on
-- its indexes: statistics of their columns, CLUSTER ON.
WITH former AS (SELECT * FROM pg_catalog.pg_class WHERE oid = $1),
     beside AS (SELECT *, oid::pg_catalog.regclass AS table_name FROM pg_catalog.pg_class WHERE oid = $2),
moves AS (
    SELECT f.relowner <> b.relowner AND pg_catalog.has_schema_privilege(f.relowner, b.relnamespace, 'CREATE') AS owner,
           f.relowner, b.table_name FROM former f, beside b
), granted AS (
    SELECT a.grantee FROM beside b, pg_catalog.aclexplode(coalesce(b.relacl, pg_catalog.acldefault('r', b.relowner))) a
    UNION SELECT a.grantee FROM pg_catalog.pg_attribute c, pg_catalog.aclexplode(c.attacl) a WHERE c.attrelid = $2
    UNION SELECT f.relowner FROM former f
), grants (grantee, privilege, column_name, grantable) AS (
    SELECT a.grantee, a.privilege_type, NULL, a.is_grantable
    FROM former f, pg_catalog.aclexplode(coalesce(f.relacl, pg_catalog.acldefault('r', f.relowner))) a
    UNION SELECT a.grantee, a.privilege_type, c.attname, a.is_grantable
    FROM pg_catalog.pg_attribute c, pg_catalog.aclexplode(c.attacl) a
    WHERE c.attrelid = $1 AND NOT c.attisdropped
      AND EXISTS (SELECT FROM pg_catalog.pg_attribute n WHERE n.attrelid = $2 AND n.attname = c.attname AND NOT n.attisdropped)
), indexes AS (
    SELECT i.indexrelid, i.indrelid, i.indisclustered, c.relname,
           pg_catalog.replace(pg_catalog.pg_get_indexdef(i.indexrelid),
                              pg_catalog.format(' INDEX %I ON %s ', c.relname, i.indrelid::pg_catalog.regclass), ' ') AS form
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid IN ($1, $2)
), alike AS (
    SELECT f.indexrelid AS former, n.indexrelid AS beside, n.relname, f.indisclustered AND NOT n.indisclustered AS clustered
    FROM indexes f JOIN indexes n ON f.indrelid = $1 AND n.indrelid = $2 AND n.form = f.form
), same_grants AS (
    SELECT f.relacl IS NULL AND b.relacl IS NULL
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid IN ($1, $2) AND attacl IS NOT NULL) AS yes
    FROM former f, beside b
)
SELECT statement FROM (
    SELECT 1, pg_catalog.format('ALTER TABLE %s OWNER TO %I', table_name, pg_catalog.pg_get_userbyid(relowner))
    FROM moves WHERE owner
    UNION ALL
    SELECT 2, pg_catalog.format('REVOKE ALL ON %s FROM %s CASCADE', b.table_name, CASE WHEN g.grantee = 0 THEN 'PUBLIC'
                                ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END)
    FROM beside b, granted g, same_grants s WHERE NOT s.yes
    UNION ALL
    SELECT 3, pg_catalog.format('GRANT %s%s ON %s TO %s%s', g.privilege,
                                CASE WHEN g.column_name IS NOT NULL THEN ' (' || pg_catalog.quote_ident(g.column_name) || ')' END,
                                b.table_name, CASE WHEN g.grantee = 0 THEN 'PUBLIC'
                                ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END,
                                CASE WHEN g.grantable THEN ' WITH GRANT OPTION' END)
    FROM beside b, grants g, same_grants s WHERE NOT s.yes
    UNION ALL
    SELECT 4, pg_catalog.format('COMMENT ON TABLE %s IS %L', table_name, pg_catalog.obj_description($1, 'pg_class'))
    FROM beside
    WHERE pg_catalog.obj_description($1, 'pg_class') IS DISTINCT FROM pg_catalog.obj_description($2, 'pg_class')
    UNION ALL
    SELECT 5, pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', b.table_name, n.attname,
                                pg_catalog.col_description($1, f.attnum))
    FROM beside b, pg_catalog.pg_attribute n JOIN pg_catalog.pg_attribute f ON f.attrelid = $1 AND f.attname = n.attname
    WHERE n.attrelid = $2 AND n.attnum > 0 AND NOT n.attisdropped AND NOT f.attisdropped
      AND pg_catalog.col_description($1, f.attnum) IS DISTINCT FROM pg_catalog.col_description($2, n.attnum)
    UNION ALL
    SELECT 6, pg_catalog.format('COMMENT ON CONSTRAINT %I ON %s IS %L', n.conname, b.table_name, pg_catalog.obj_description(f.oid, 'pg_constraint'))
    FROM beside b, pg_catalog.pg_constraint n JOIN pg_catalog.pg_constraint f ON f.conrelid = $1 AND f.contype = n.contype
     AND pg_catalog.pg_get_constraintdef(f.oid) = pg_catalog.pg_get_constraintdef(n.oid)
    WHERE n.conrelid = $2
      AND pg_catalog.obj_description(f.oid, 'pg_constraint') <> coalesce(pg_catalog.obj_description(n.oid, 'pg_constraint'), '')
    UNION ALL
    SELECT 7, pg_catalog.format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', a.beside::pg_catalog.regclass, f.attnum, f.attstattarget)
    FROM alike a JOIN pg_catalog.pg_attribute f ON f.attrelid = a.former
    JOIN pg_catalog.pg_attribute n ON n.attrelid = a.beside AND n.attnum = f.attnum
    WHERE f.attstattarget >= 0 AND f.attstattarget IS DISTINCT FROM n.attstattarget
    UNION ALL
    SELECT 8, pg_catalog.format('ALTER TABLE %s CLUSTER ON %I', b.table_name, a.relname) FROM beside b, alike a WHERE a.clustered
) AS all_statements (step, statement) ORDER BY step, statement
