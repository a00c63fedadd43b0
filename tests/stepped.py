"""A database whose clock a test can set: our functions and defaults use a clock with an offset."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Database


class SteppedClock:
    """The clock of one database. Its functions and the defaults of its tables are made again, word for word, with
    another clock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.query("CREATE TABLE clock_offset AS SELECT 0.0::double precision AS seconds")
        database.query("GRANT SELECT ON clock_offset TO PUBLIC")  # some functions run as the owner
        database.query(
            "CREATE FUNCTION stepped_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT"
            " pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM public.clock_offset)) $$"
        )
        for (text,) in database.query(
            "SELECT pg_get_functiondef(oid) FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace AND prosrc LIKE '%clock_timestamp()%' AND prokind = 'f'"
            " AND proname <> 'stepped_clock'"
        ):
            # With its schema, because most functions search only in pg_catalog.
            database.query(re.sub(r"(pg_catalog\.)?clock_timestamp\(\)", "public.stepped_clock()", text))
        for table, column in database.query(
            "SELECT adrelid::regclass::text, attname"
            " FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum"
            " WHERE pg_get_expr(adbin, adrelid) IN ('now()', 'clock_timestamp()')"
        ):
            database.query(f"ALTER TABLE {table} ALTER {column} SET DEFAULT stepped_clock()")

    def step(self, seconds: float) -> None:
        """Set the clock ahead, or back."""
        self._database.query("UPDATE clock_offset SET seconds = seconds + %s", seconds)
