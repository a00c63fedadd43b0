"""What an operator does to jobs: actions, selections, and the record of both. Used by the commands and by Client."""
