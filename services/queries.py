"""
Blocking SQL, where it holds nobody up.

A database driver that blocks may do so in the thread that a worker gives to
each call; whoever called ``queries.users`` gets a Deferred, and goes on::

    client.call("queries.users", {"flag": 1})
    client.call("queries.slow", {"rows": 1_000_000}, timeout=5)

The database is the SQLite file that the environment's
``CREW_QUERIES_DATABASE`` names, or one in the temporary directory. A table
``users`` is made and filled where there is none.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any

from crew_tx.worker import Service, context

Row = dict[str, Any]

DATABASE_VARIABLE = "CREW_QUERIES_DATABASE"
BUSY_SECONDS = 10.0
#: Steps of SQLite's machine, some of which it does in a microsecond.
STEPS_BETWEEN_LOOKS = 10_000

USERS = (
    (1, "Trinity", 1),
    (2, "Morpheus", 1),
    (3, "Cypher", 0),
    (4, "Neo", 1),
    (5, "Smith", 2),
)

MAKE_TABLE = "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT, flag INTEGER)"
FIND_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'users'"
ADD_USER = "INSERT OR IGNORE INTO users VALUES (?, ?, ?)"
USERS_BY_FLAG = "SELECT id, name, flag FROM users WHERE flag = ? ORDER BY id"
COUNT_SLOWLY = """
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
    SELECT max(n) AS counted FROM numbers
"""


class Queries:
    """
    Queries of one database.

    :param path: the SQLite file; it is opened when a thread first needs it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # An SQLite connection is for the thread that made it.
        self._of_thread = threading.local()

    def c_users(self, req: Any) -> list[Row]:
        """The users that have a flag: ``{"flag": 1}``."""
        return self._query(USERS_BY_FLAG, whole_number(req, "flag"))

    def c_slow(self, req: Any) -> list[Row]:
        """Make the database count to a number, which takes it a while: ``{"rows": 1_000_000}``."""
        return self._query(COUNT_SLOWLY, whole_number(req, "rows"))

    def close(self) -> None:
        """Close this thread's connection."""
        connection = self._of_thread.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def _query(self, sql: str, *parameters: object) -> list[Row]:
        return [dict(row) for row in self._connection().execute(sql, parameters)]

    def _connection(self) -> sqlite3.Connection:
        kept: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if kept is None:
            kept = self._of_thread.connection = connect(self._path)
        return kept


def database_path() -> Path:
    """The file that the environment names, or one of this user's in the temporary directory."""
    named = os.environ.get(DATABASE_VARIABLE)
    return Path(named) if named else Path(tempfile.gettempdir(), f"crew-queries-{os.getuid()}.sqlite3")


def connect(path: Path) -> sqlite3.Connection:
    """
    Open the database, with its table in it.

    :raises sqlite3.OperationalError: naming the file, and the remedy.
    """
    try:
        # No transaction begins by itself: only make_table() wants one.
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        return prepared(connection)
    except sqlite3.Error as error:
        raise sqlite3.OperationalError(
            f"{path} can't be used: {error}; let {DATABASE_VARIABLE} name an SQLite file that may be written"
        ) from error


def prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Give it its table, and our ways; close it if that fails."""
    try:
        make_table(connection)
    except BaseException:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    # The exception by which a worker ends a task can't reach into SQLite; but SQLite asks now and then.
    connection.set_progress_handler(lambda: context.cancelled, STEPS_BETWEEN_LOOKS)
    return connection


def make_table(connection: sqlite3.Connection) -> None:
    """Make the table and fill it, unless it is there. Other threads and workers may be at it, too."""
    if connection.execute(FIND_TABLE).fetchone():
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(MAKE_TABLE)
        connection.executemany(ADD_USER, USERS)


def whole_number(req: Any, name: str) -> int:
    """
    A number of the request.

    :raises ValueError: if it is missing, or something else.
    """
    number = req.get(name) if isinstance(req, dict) else None
    if type(number) is not int:
        raise ValueError(f'the request is a map with "{name}", a whole number')
    return number


service = Service("queries", Queries(database_path()), timeout=30)
