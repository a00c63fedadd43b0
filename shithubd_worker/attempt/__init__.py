"""One run of one handler: its deadlines, its children, and what came of it."""
