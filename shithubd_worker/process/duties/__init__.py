"""The duties of the control thread, one a file. control.py says in which order they have their turn."""
