"""What threatens the queue now: each check finds nothing, or findings with their evidence and their runbook."""
