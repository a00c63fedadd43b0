-- Lists what one command of ours changed: its rows of the audit record, as audit_row_v1. p_command is the name that the command
-- gave itself, with the setting shithubd_worker.command of each of its transactions.
CREATE OR REPLACE FUNCTION command_changes_v1(p_command text) RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$ SELECT audit_row_v1(a) FROM audit a WHERE a.command = p_command ORDER BY a.id $$;
