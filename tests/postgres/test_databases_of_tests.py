"""A test's own database leaves no connection open, also if the test fails."""

from __future__ import annotations

import gc
import warnings

from conftest import Database


def test_a_database_in_a_ring_of_garbage_closes_its_connections_without_a_warning(database):
    """A failed test leaves such a ring: its traceback and its variables. Python may end the parts in any order."""
    connection = database.connect()
    other = Database(database.server, database.name)
    other._kept.append(connection)
    other.ring = other
    pgconn = connection.pgconn
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del connection, other
        gc.collect()
    assert [str(each.message) for each in warned] == []
    assert pgconn.status != 0  # closed
