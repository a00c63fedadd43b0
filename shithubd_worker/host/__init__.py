"""The machine: who this process is, who else is dead, signals, systemd, and files that came with the program."""
