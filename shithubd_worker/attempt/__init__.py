"""One run of one handler: its deadlines, its children, and its result."""
