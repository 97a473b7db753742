-- The jobs under way for `status --json`, as a JSON array. One whose session is gone is shown as not running.
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'kind', kind,
           'projection', name,
           'phase', phase,
           'done', done,
           'total', total,
           'percent', CASE WHEN total > 0 THEN done * 100 / total END,
           'rate', pg_catalog.round(rate),
           'remainingSeconds', pg_catalog.round((total - done) / nullif(rate, 0)),
           'startedAt', pg_catalog.to_char(started_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           'running', EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = j.pid
                              AND (a.backend_start IS NULL OR a.backend_start <= j.started_at))) ORDER BY id), '[]')
FROM (SELECT *, done / nullif(extract(epoch FROM updated_at - phase_at), 0) AS rate FROM pgprojector.job) j
