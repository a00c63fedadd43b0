"""What runs in the workers' own processes: the handlers, and small programs around the peers' libraries.

Those for peers are all called alike, see contenders/contender.py: migrate, load, work, enqueue.
"""
