-- The views that read a table ($1): a statement that locks each (and changes nothing), and one that defines it as it is. The name in the
-- definition is the table's own, whichever table has it by then.
SELECT pg_catalog.format('ALTER VIEW %s OWNER TO %I', v.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(v.relowner)),
       pg_catalog.format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::pg_catalog.regclass,
                         (SELECT ' WITH (' || pg_catalog.string_agg(pg_catalog.format('%I = %L', o.option_name, o.option_value), ', ')
                                 || ')' FROM pg_catalog.pg_options_to_table(v.reloptions) o),
                         pg_catalog.pg_get_viewdef(v.oid)),
       v.oid
FROM pg_catalog.pg_class v
WHERE v.relkind = 'v' AND v.oid IN (
    SELECT r.ev_class FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1)
ORDER BY v.oid
