-- The views that read a table ($1): a statement that locks each (and changes nothing), and one that defines it as it is; its name; the
-- table's columns that it reads by name. The name in the definition is the table's own, whichever table has it by then.
SELECT pg_catalog.format('ALTER VIEW %s OWNER TO %I', v.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(v.relowner)),
       pg_catalog.format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::pg_catalog.regclass,
                         (SELECT ' WITH (' || pg_catalog.string_agg(pg_catalog.format('%I = %L', o.option_name, o.option_value), ', ')
                                 || ')' FROM pg_catalog.pg_options_to_table(v.reloptions) o),
                         pg_catalog.pg_get_viewdef(v.oid)),
       v.oid, v.oid::pg_catalog.regclass, reads.columns
FROM (
    SELECT r.ev_class, pg_catalog.string_agg(DISTINCT a.attname::pg_catalog.text, ', ') AS columns
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1
    GROUP BY r.ev_class
) reads JOIN pg_catalog.pg_class v ON v.oid = reads.ev_class AND v.relkind = 'v'
ORDER BY v.oid
