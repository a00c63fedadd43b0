"""The process: its loop, its control thread, its start and its end, and what they share."""
