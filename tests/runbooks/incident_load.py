"""A forge at its usual work, on the booted host: five jobs a second by plain INSERT. It writes down each id whose
commit was answered: that job must be done in the end."""

from __future__ import annotations

import sys
import time

import psycopg

while True:
    try:
        with psycopg.connect("host=/run/postgresql dbname=shithub", autocommit=True) as connection:
            while True:
                row = connection.execute("INSERT INTO jobs (kind) VALUES ('forge.tick') RETURNING id").fetchone()
                with open(sys.argv[1], "a") as file:
                    file.write(f"{row[0]}\n")
                time.sleep(0.2)
    except psycopg.Error:
        time.sleep(0.2)
