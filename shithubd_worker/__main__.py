"""`python -m shithubd_worker`, for a host where the script is not on the path."""

from shithubd_worker.cli import main

main()
