"""
Blocking SQL, where it holds nobody up.

A database driver that blocks may do so in the thread that a worker gives to
each call; whoever called ``queries.users`` gets a Deferred, and goes on::

    client.call("queries.users", {"flag": 1})
    client.call("queries.slow", {"rows": 1_000_000}, timeout=5)
    client.call("queries.sleep", {"seconds": 2}, timeout=5)

The database is what the environment's ``CREW_QUERIES_DATABASE`` names: an
SQLite file, or a server, as ``postgresql://neo@127.0.0.1/matrix`` (by psycopg)
or ``mysql://neo@127.0.0.1/matrix`` (MariaDB, by PyMySQL); else a file in the
temporary directory. A table ``users`` is made and filled where there is none.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

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
SLEEP = "SELECT sleep(?) AS slept"
COUNT_SLOWLY = """
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
    SELECT max(n) AS counted FROM numbers
"""
LONGEST_SLEEP = 60.0

#: What a server has in another way. A lock lets one program at a time make the table.
ON_POSTGRESQL = {
    SLEEP: "SELECT 0 AS slept FROM pg_sleep(%s)",
    FIND_TABLE: "SELECT 1 FROM pg_tables WHERE tablename = 'users' AND schemaname = current_schema()",
    ADD_USER: "INSERT INTO users VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
    "lock": "SELECT pg_advisory_lock(20250811)",
    "unlock": "SELECT pg_advisory_unlock(20250811)",
    "limit": "SET statement_timeout = {milliseconds}",
}
ON_MARIADB = {
    SLEEP: "SELECT sleep(%s) AS slept",
    FIND_TABLE: (
        "SELECT 1 FROM information_schema.tables WHERE table_name = 'users' AND table_schema = database()"
    ),
    ADD_USER: "INSERT IGNORE INTO users VALUES (%s, %s, %s)",
    "lock": "SELECT get_lock('crew-queries', 10)",
    "unlock": "SELECT release_lock('crew-queries')",
    # It would count to a thousand only.
    "limit": "SET max_recursive_iterations = 4294967295, max_statement_time = {seconds}",
}


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

    def c_sleep(self, req: Any) -> list[Row]:
        """Wait in the database for some seconds, as a slow query does: ``{"seconds": 2}``."""
        return self._query(SLEEP, number_of_seconds(req))

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


class ServerQueries(Queries):
    """
    Queries of a database on a server, whose driver is needed here alone.

    :param url: where, as ``postgresql://`` or ``mysql://``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        is_postgresql = url.startswith("postgres")
        self._texts = ON_POSTGRESQL if is_postgresql else ON_MARIADB
        self._connect = connect_to_postgresql if is_postgresql else connect_to_mariadb
        self._of_thread = threading.local()

    def _query(self, sql: str, *parameters: object) -> list[Row]:
        try:
            return self._execute(sql, *parameters)
        except Exception:
            # Who knows what it is at: the next query has another one.
            self.close()
            raise

    def _execute(self, sql: str, *parameters: object) -> list[Row]:
        connection: Any = getattr(self._of_thread, "connection", None)
        is_new = connection is None
        if is_new:
            connection = self._of_thread.connection = self._connect(self._url)
        with connection.cursor() as cursor:
            # The exception by which a worker ends a task can't reach into a driver: so the server does.
            left = max(0.001, context.request.time_left)
            cursor.execute(self._texts["limit"].format(milliseconds=int(left * 1000) + 1, seconds=left))
            if is_new:
                self._make_table(cursor)
            cursor.execute(self._texts.get(sql, sql.replace("?", "%s")), parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _make_table(self, cursor: Any) -> None:
        """Make the table and fill it, unless it is there."""
        cursor.execute(self._texts["lock"])
        try:
            cursor.execute(self._texts[FIND_TABLE])
            if not cursor.fetchall():
                cursor.execute(MAKE_TABLE)
                cursor.executemany(self._texts[ADD_USER], USERS)
        finally:
            cursor.execute(self._texts["unlock"])


def connect_to_postgresql(url: str) -> Any:
    """Each statement is a transaction by itself."""
    import psycopg

    return psycopg.connect(url, autocommit=True, connect_timeout=int(BUSY_SECONDS))


def connect_to_mariadb(url: str) -> Any:
    """Likewise."""
    import pymysql

    parts: SplitResult = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]),
        autocommit=True,
        connect_timeout=int(BUSY_SECONDS),
    )


def make_queries() -> Queries:
    """Of the database that the environment names."""
    named = os.environ.get(DATABASE_VARIABLE, "")
    if named.startswith(("postgresql://", "postgres://", "mysql://")):
        return ServerQueries(named)
    return Queries(database_path())


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
    connection.create_function("sleep", 1, time.sleep)
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


def number_of_seconds(req: Any) -> float:
    """
    A time of the request.

    :raises ValueError: if it is missing, too long, or something else.
    """
    seconds: Any = req.get("seconds") if isinstance(req, dict) else None
    if type(seconds) not in (int, float) or not 0 <= seconds <= LONGEST_SLEEP:
        raise ValueError(f'the request is a map with "seconds", from 0 to {LONGEST_SLEEP:g}')
    return float(seconds)


service = Service("queries", make_queries(), timeout=30)
