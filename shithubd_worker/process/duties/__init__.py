"""The duties of the control thread, one a file. wiring.py sets their order."""
