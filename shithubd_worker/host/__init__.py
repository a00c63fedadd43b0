"""The machine: who this process is, who is dead, signals, systemd, and the files that came with the program."""
