-- The columns of tables of the write database, in their order. $1 oid[]: the tables. Virtual generated ones are left out: they
-- have no stored values, and the stream says NULL of them.
-- key_place and identity_place: the column's place in the primary key and in the identity index (NULL: not in it).
WITH RECURSIVE resolved AS (
    -- each column's type with domains resolved, step by step, to the type beneath
    SELECT a.attrelid, a.attnum, a.atttypid AS type_oid
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
    UNION ALL
    SELECT r.attrelid, r.attnum, t.typbasetype
    FROM resolved r
    JOIN pg_catalog.pg_type t ON t.oid = r.type_oid
    WHERE t.typtype = 'd'
)
SELECT a.attrelid, a.attnum, a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_sql,
       base.oid AS type_oid,
       CASE WHEN element.oid IS NULL THEN pg_catalog.quote_ident(bn.nspname) || '.' || pg_catalog.quote_ident(base.typname)
            ELSE pg_catalog.quote_ident(en.nspname) || '.' || pg_catalog.quote_ident(element.typname) || '[]'
       END AS base_sql,
       pg_catalog.quote_ident(pn.nspname) || '.' || pg_catalog.quote_ident(p.proname) AS output_sql,
       CASE WHEN a.attcollation <> declared.typcollation
            THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(c.collname) END AS collation_sql,
       -- the index's equality, where "=" is not it, or is not to be found without a search_path
       (SELECT 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
        FROM pg_catalog.pg_opclass k
        JOIN pg_catalog.pg_amop p ON p.amopfamily = k.opcfamily AND p.amoplefttype = k.opcintype
             AND p.amoprighttype = k.opcintype AND p.amopstrategy = 3
        JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE base.oid >= 16384 AND (n.nspname <> 'pg_catalog' OR o.oprname <> '=')
              AND k.oid = coalesce((ri.indclass::oid[])[pg_catalog.array_position(ri.indkey::int2[], a.attnum)],
                                   (pk.indclass::oid[])[pg_catalog.array_position(pk.indkey::int2[], a.attnum)])) AS equal_sql,
       a.attnotnull,
       a.attlen = -1 AS toastable,
       pg_catalog.array_position(pk.indkey::int2[], a.attnum) AS key_place,
       pg_catalog.array_position(ri.indkey::int2[], a.attnum) AS identity_place,
       pk.indnkeyatts AS key_count,
       ri.indnkeyatts AS identity_count
FROM pg_catalog.pg_attribute a
JOIN resolved r ON r.attrelid = a.attrelid AND r.attnum = a.attnum
JOIN pg_catalog.pg_type base ON base.oid = r.type_oid AND base.typtype <> 'd'
JOIN pg_catalog.pg_namespace bn ON bn.oid = base.typnamespace
JOIN pg_catalog.pg_type declared ON declared.oid = a.atttypid
JOIN pg_catalog.pg_proc p ON p.oid = base.typoutput
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_type element ON element.typarray = base.oid
LEFT JOIN pg_catalog.pg_namespace en ON en.oid = element.typnamespace
LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace
LEFT JOIN pg_catalog.pg_index pk ON pk.indrelid = a.attrelid AND pk.indisprimary
LEFT JOIN pg_catalog.pg_index ri ON ri.indrelid = a.attrelid AND ri.indisreplident AND ri.indisvalid
ORDER BY a.attrelid, a.attnum
