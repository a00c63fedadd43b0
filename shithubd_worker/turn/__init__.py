"""One round trip after the other: what is finished goes to the database, what is leased comes from it."""
