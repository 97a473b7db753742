-- The checkpoint row. The commit time as microseconds since 2000-01-01 UTC, as the replication protocol has it.
SELECT instance, slot, lsn, system_id, timeline, database, epoch, witness_xid, witness_lsn,
       (extract(epoch FROM witness_time - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::bigint AS witness_us,
       backend_pid, backend_start, resync_at
FROM pgprojector.checkpoint
