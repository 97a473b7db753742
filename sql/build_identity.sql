-- Statements that give the table beside ($2) the owner, the grants and the comments of the projection's table ($1).
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
) AS all_statements (step, statement) ORDER BY step, statement
