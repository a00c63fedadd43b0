"""The process: its loop, its control thread, its way in and out, and what they share."""
