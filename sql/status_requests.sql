-- The requests to the daemon for `status --json`, as a JSON array: those that have not ended, and failed ones for a day, or until the
-- next for the same module.
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'kind', kind,
           'module', name,
           'state', state,
           'message', nullif(message, ''),
           'hint', nullif(hint, ''),
           'requestedAt', pg_catalog.to_char(requested_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           'endedAt', pg_catalog.to_char(ended_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) ORDER BY id), '[]')
FROM pgprojector.request r
WHERE ended_at IS NULL OR state = 'failed' AND ended_at > pg_catalog.now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM pgprojector.request later WHERE later.name = r.name AND later.id > r.id)
