-- Says for each job of a chunk of the audit record whether an undo can restore it. It changes and locks nothing.
-- p_only are the jobs that are asked about; null means all of the chunk. Returns the chunk's entry for each, and:
--   fate  null: the job is as the change has left it, and can be restored. Else why it is left alone:
--           unchanged                      it is already as it was before the change
--           changed: <column>: <after the change> -> <now>; ...
--           runs: leased by <host>:<pid>
--           ended: <outcome> at <time>     it has left the queue since, and the history says how
--           gone                           it has left the queue since, and the history does not say how
--           restored by audit row <id>     it was gone, an undo has restored it, and it is gone again
--           taken: another job has this id now
--           ran then                       it ran at that time, and the change ended its lease
-- Called by undo_chunk_v1 and undo_preview_v1.
CREATE OR REPLACE FUNCTION undo_fates_v1(p_audit bigint, p_chunk bigint, p_only bigint[])
RETURNS TABLE (job_id bigint, before jsonb, after jsonb, payload jsonb, fate text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
-- By the primary key, because the planner's statistics of a queue are never up to date.
SET jit = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
DECLARE
    v_ids bigint[];
    v_at  timestamptz;
BEGIN
    SELECT c.job_ids, c.at INTO v_ids, v_at
      FROM :"schema".audit_chunks c WHERE c.audit_id = p_audit AND c.id = p_chunk;
    RETURN QUERY EXECUTE pg_catalog.concat($sql$
    WITH entries AS MATERIALIZED (
        SELECT e.id, e.before, e.after, e.payload
          FROM :"schema".audit_chunks c,
               ROWS FROM (pg_catalog.unnest(c.job_ids), pg_catalog.unnest(c.before), pg_catalog.unnest(c.after), pg_catalog.unnest(c.payloads))
                   e (id, before, after, payload)
         WHERE c.audit_id = $1 AND c.id = $2 AND e.id IS NOT NULL AND ($3 IS NULL OR e.id = ANY ($3))
    ), seen AS MATERIALIZED (
        SELECT e.*, j.id IS NOT NULL AS there, j.state, j.leased_by,
               CASE WHEN j.id IS NOT NULL THEN $sql$, :"schema".face_now_v1('coalesce(e.after, e.before)'), $sql$ END AS face
          FROM entries e LEFT JOIN :"schema".jobs j ON j.id = e.id
    ), restored AS MATERIALIZED (
        -- A job that is gone looks the same each time, so it is restored once for each change that took it away.
        SELECT r.id, max(u.id) AS undo
          FROM :"schema".audit u, :"schema".audit_chunks c, pg_catalog.unnest(c.job_ids) r (id)
         WHERE u.action = 'undo' AND u.detail->'undoes' = pg_catalog.to_jsonb($1) AND c.audit_id = u.id
           AND c.span && pg_catalog.numrange($4[1], $4[pg_catalog.cardinality($4)], '[]')
         GROUP BY r.id
    ), ended AS MATERIALIZED (
        SELECT DISTINCT ON (h.id) h.id, pg_catalog.format('ended: %s at %s', h.outcome, pg_catalog.date_trunc('second', h.finished_at)) AS how
          FROM :"schema".job_history h
         WHERE h.id BETWEEN $4[1] AND $4[pg_catalog.cardinality($4)] AND h.finished_at > $5 AND h.outcome IN ('ok', 'completed', 'discarded')
           AND EXISTS (SELECT FROM seen n WHERE NOT n.there)
         ORDER BY h.id, h.finished_at DESC
    )
    SELECT n.id, n.before, n.after, n.payload, CASE
        WHEN n.before->>'state' = 'processing' THEN 'ran then'
        WHEN :"schema".same_face_v1(n.after, n.face) OR n.after IS NULL AND NOT n.there AND r.id IS NULL AND h.id IS NULL THEN NULL
        WHEN :"schema".same_face_v1(n.before, n.face) OR n.before IS NULL AND NOT n.there AND r.id IS NOT NULL THEN 'unchanged'
        WHEN NOT n.there THEN coalesce(h.how, 'restored by audit row ' || r.undo, 'gone')
        WHEN (n.face->'kind', n.face->'created_at')
             IS DISTINCT FROM (coalesce(n.after, n.before)->'kind', coalesce(n.after, n.before)->'created_at')
            THEN 'taken: another job has this id now'
        WHEN n.state = 'processing' THEN 'runs: leased by ' || n.leased_by
        ELSE 'changed: ' || :"schema".change_text_v1(coalesce(n.after, n.before), n.face) END
      FROM seen n LEFT JOIN restored r ON r.id = n.id LEFT JOIN ended h ON h.id = n.id
    $sql$) USING p_audit, p_chunk, p_only, v_ids, v_at;
END $$;
