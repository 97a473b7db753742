-- What hangs on a projection's table ($1, an oid) and cannot move to the one beside ($2) when that takes the name. $3: whether both
-- are of one definition, so that a column which only the former has was added by hand. One row each: what it is.
WITH former AS (
    SELECT c.*, c.oid::pg_catalog.regclass AS table_name FROM pg_catalog.pg_class c WHERE c.oid = $1
), types AS (
    SELECT t.oid FROM pg_catalog.pg_type t, former f WHERE t.oid = f.reltype OR t.typelem = f.reltype AND t.typcategory = 'A'
), parts (classid, objid) AS (
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, $1::pg_catalog.oid
    UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid FROM types
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid FROM pg_catalog.pg_index WHERE indrelid = $1
    UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid FROM pg_catalog.pg_constraint WHERE conrelid = $1
), dependants AS (
    SELECT d.classid, d.objid, d.refclassid, d.refobjsubid
    FROM pg_catalog.pg_depend d JOIN parts p ON d.refclassid = p.classid AND d.refobjid = p.objid
), views AS (
    SELECT DISTINCT v.oid::pg_catalog.regclass AS view, v.relowner, v.relnamespace, v.relpersistence, r.oid AS rule, d.refobjsubid
    FROM dependants d JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid
    JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind = 'v' AND r.rulename = '_RETURN'
    WHERE d.refclassid <> 'pg_catalog.pg_type'::pg_catalog.regclass
), shapes AS (
    SELECT attrelid, pg_catalog.array_agg(pg_catalog.format('%I %s %s', attname, atttypid, atttypmod) ORDER BY attnum) AS columns
    FROM pg_catalog.pg_attribute WHERE attrelid IN ($1, $2) AND attnum > 0 AND NOT attisdropped GROUP BY attrelid
), places AS ( -- views whose text gives columns by their place: whole rows, a join with an alias, an alias list
    SELECT r.ev_class::pg_catalog.regclass AS view,
           CASE WHEN r.ev_action::pg_catalog.text ~ (':varattno 0 :vartype ' || f.reltype || ' ') THEN 'whole rows of the table'
                WHEN r.ev_action::pg_catalog.text ~
                     ':alias \{ALIAS (\\.|[^{}\\])*\} :eref \{ALIAS (\\.|[^{}\\])*\} :rtekind 2' THEN 'an alias for a join'
                WHEN s.columns <> n.columns[1:pg_catalog.cardinality(s.columns)] AND EXISTS (
                     SELECT FROM pg_catalog.unnest(pg_catalog.string_to_array(
                         pg_catalog.pg_get_viewdef(r.ev_class), f.table_name || ' ')) WITH ORDINALITY AS part (text, turn)
                     WHERE part.turn > 1 AND part.text ~ '^("([^"]|"")+"|[^" (]+)\(') THEN 'column aliases for the table' END AS uses
    FROM former f JOIN shapes s ON s.attrelid = $1 JOIN shapes n ON n.attrelid = $2 AND n.columns <> s.columns,
         pg_catalog.pg_rewrite r WHERE r.oid IN (SELECT rule FROM views)
), strange AS (
    SELECT DISTINCT d.classid, d.objid FROM dependants d
    WHERE NOT EXISTS (SELECT FROM parts p WHERE p.classid = d.classid AND p.objid = d.objid
                      AND (d.classid <> 'pg_catalog.pg_constraint'::pg_catalog.regclass OR d.objid IN
                           (SELECT oid FROM pg_catalog.pg_constraint WHERE contype IN ('p', 'u', 'x', 'c', 'n'))))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND c.oid = d.objid AND c.relkind = 't')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef a WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                      AND a.oid = d.objid AND a.adrelid = $1)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
                      AND t.oid = d.objid AND t.tgisinternal)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN views v ON v.view = r.ev_class
                      WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid
                      AND r.rulename = '_RETURN')
)
SELECT coalesce((SELECT CASE m.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || m.oid::pg_catalog.regclass
                 FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class m ON m.oid = r.ev_class
                 WHERE s.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = s.objid AND r.rulename = '_RETURN'),
                pg_catalog.pg_describe_object(s.classid, s.objid, 0)) AS obstacle
FROM strange s
UNION
SELECT CASE WHEN n.attnum IS NULL
       THEN pg_catalog.format('view %s, which uses column %I: the new table has none of that name', v.view, a.attname)
       ELSE pg_catalog.format('view %s, which uses column %I: it is of type %s in the new table, and was %s', v.view, a.attname,
                              pg_catalog.format_type(n.atttypid, n.atttypmod),
                              pg_catalog.format_type(a.atttypid, a.atttypmod)) END
FROM views v JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = v.refobjsubid AND v.refobjsubid > 0
LEFT JOIN pg_catalog.pg_attribute n ON n.attrelid = $2 AND n.attname = a.attname AND NOT n.attisdropped
WHERE (n.atttypid, n.atttypmod, n.attcollation) IS DISTINCT FROM (a.atttypid, a.atttypmod, a.attcollation)
UNION
SELECT pg_catalog.format('view %s, which uses %s: the new table has other columns, or in another order', view, uses)
FROM places WHERE uses IS NOT NULL
UNION
SELECT pg_catalog.format('temporary view %s of another session of role %I: it goes with that session', view,
                         pg_catalog.pg_get_userbyid(relowner)) FROM views WHERE relpersistence = 't'
UNION
SELECT pg_catalog.format('view %1$s, in whose schema %2$I may not define it again (GRANT USAGE, CREATE ON SCHEMA %3$I TO %2$I)',
                         v.view, CURRENT_USER, n.nspname)
FROM views v JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
WHERE v.relpersistence <> 't' AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_schema_privilege(n.oid, 'CREATE'))
UNION
SELECT pg_catalog.format('view %1$s, which belongs to role %2$I, of which %3$I is no member (ALTER VIEW %1$s OWNER TO %3$I, or GRANT %2$I TO %3$I)',
                         v.view, pg_catalog.pg_get_userbyid(v.relowner), CURRENT_USER)
FROM views v WHERE NOT pg_catalog.pg_has_role(v.relowner, 'USAGE')
UNION
SELECT pg_catalog.format('its owner, role %1$I, of which %2$I is no member (GRANT %1$I TO %2$I)',
                         pg_catalog.pg_get_userbyid(f.relowner), CURRENT_USER)
FROM former f WHERE NOT pg_catalog.pg_has_role(f.relowner, 'USAGE')
UNION
SELECT pg_catalog.format('column %I, which was added by hand', a.attname)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND $3::pg_catalog.bool
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute n WHERE n.attrelid = $2 AND n.attname = a.attname AND NOT n.attisdropped)
UNION
SELECT pg_catalog.format('column %I, which is generated', attname)
FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attgenerated <> '' AND NOT attisdropped
UNION
SELECT 'its inheritance from ' || inhparent::pg_catalog.regclass FROM pg_catalog.pg_inherits WHERE inhrelid = $1
UNION
SELECT 'its row-level security' FROM former WHERE relrowsecurity OR relforcerowsecurity
UNION
SELECT 'its being a ' || CASE relkind WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                         ELSE 'foreign table' END FROM former WHERE relkind <> 'r'
UNION
SELECT pg_catalog.format('tablespace %1$I of the table or an index, in which %2$I may not create (GRANT CREATE ON TABLESPACE %1$I TO %2$I)',
                         s.spcname, CURRENT_USER)
FROM pg_catalog.pg_tablespace s WHERE NOT pg_catalog.has_tablespace_privilege(s.oid, 'CREATE')
  AND s.oid IN (SELECT c.reltablespace FROM parts p JOIN pg_catalog.pg_class c
                ON c.oid = p.objid WHERE p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
UNION
SELECT 'its access method ' || m.amname FROM former f JOIN pg_catalog.pg_am m ON m.oid = f.relam JOIN pg_catalog.pg_class n ON n.oid = $2
WHERE n.relam <> f.relam AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 150000
UNION
SELECT 'its replica identity by an index' FROM former WHERE relreplident = 'i'
UNION
SELECT 'its security label' FROM pg_catalog.pg_seclabel
WHERE classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objoid = $1
UNION
SELECT 'its belonging to extension ' || pg_catalog.quote_ident(e.extname)
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = $1
  AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
ORDER BY 1
