"""One round trip after the other: finished jobs go to the database, leased jobs come from it."""
