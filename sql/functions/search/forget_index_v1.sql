-- Removes the index of a repository from the search. p_repo is its path relative to the repository root.
-- p_reason and p_actor go into the audit row. Returns the ref and the number of files that were indexed; no row if
-- there was no such index. A run of search.reindex on the repository makes it again, and may be under way.
--
-- It runs with the rights of the owner, so that an operator can remove no index without an audit row.
CREATE OR REPLACE FUNCTION forget_index_v1(p_repo text, p_reason text DEFAULT NULL, p_actor text DEFAULT session_user)
RETURNS TABLE (ref text, files integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, :"schema", pg_temp
AS $$
DECLARE
    v_index :"schema".search_repos;
BEGIN
    DELETE FROM :"schema".search_repos AS r WHERE r.repo = p_repo RETURNING * INTO v_index;
    IF FOUND THEN
        INSERT INTO :"schema".audit (actor, action, target, reason, detail)
        VALUES (p_actor, 'forget-index', pg_catalog.concat('repository ', p_repo), p_reason,
            pg_catalog.jsonb_build_object('ref', v_index.ref, 'files', v_index.files));
        ref := v_index.ref;
        files := v_index.files;
        RETURN NEXT;
    END IF;
END $$;
