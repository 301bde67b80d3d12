"""Tests of services/queries.py."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

from twisted.trial.unittest import SkipTest

from crew_tx.tasks.context import Request
from crew_tx.worker import Service
from tests.services.support import ServiceTestCase

TRINITY, MORPHEUS, NEO = (
    {"id": 1, "name": "Trinity", "flag": 1},
    {"id": 2, "name": "Morpheus", "flag": 1},
    {"id": 4, "name": "Neo", "flag": 1},
)


class QueriesTestCase(ServiceTestCase):
    """A database of the test's own."""

    def setUp(self) -> None:
        self.patch(os, "environ", dict(os.environ))
        self.module = self.load("queries")
        self.path = Path(self.mktemp())
        self.serve(self.path)

    def serve(self, path: Path) -> Any:
        """Perform queries of this database from now on."""
        queries = self.module.Queries(path)
        self.addCleanup(queries.close)
        self.use({"service": Service("queries", queries)})
        return queries

    def change(self, sql: str) -> None:
        """What another program does to the database."""
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(sql)
        connection.close()

    def users(self, flag: int = 1) -> Any:
        """The users with this flag."""
        answered = self.perform("queries.users", {"flag": flag})
        self.assertIsNone(answered.error, answered.value)
        return answered.value

    def assert_raised(self, text: str, task_id: str, request: object) -> None:
        """Assert that a query fails, with a text that has this."""
        answered = self.perform(task_id, request)
        self.assertEqual("raised", answered.error)
        self.assertIn(text, answered.value["message"])


class UsersTests(QueriesTestCase):
    """The query by flag."""

    def test_rows_are_maps(self) -> None:
        """Of column names and values, in the order of ids."""
        self.assertEqual([TRINITY, MORPHEUS, NEO], self.users())
        self.assertEqual([{"id": 5, "name": "Smith", "flag": 2}], self.users(flag=2))

    def test_no_row_is_an_empty_list(self) -> None:
        """Not an error."""
        self.assertEqual([], self.users(flag=77))

    def test_a_flag_is_a_whole_number(self) -> None:
        """So that no SQL can be smuggled in, and a mistake is told."""
        text = 'the request is a map with "flag", a whole number'
        for request in (None, {}, {"flag": "1 OR 1"}, {"flag": 1.5}, {"flag": True}, [1], "flag"):
            self.assert_raised(text, "queries.users", request)

    def test_a_number_that_sqlite_has_not_is_an_error(self) -> None:
        """And the next query works."""
        self.assert_raised("too large", "queries.users", {"flag": 2**70})
        self.assertEqual(3, len(self.users()))


class SlowTests(QueriesTestCase):
    """The query that takes its time."""

    def test_it_counts(self) -> None:
        """One row, with what it came to."""
        self.assertEqual([{"counted": 50_000}], self.perform("queries.slow", {"rows": 50_000}).value)

    def test_it_is_aborted_when_nobody_wants_its_rows_any_more(self) -> None:
        """Long before it is through."""
        answered = self.perform("queries.slow", {"rows": 5_000_000}, cancelled=True)
        self.assertEqual("raised", answered.error)
        self.assertEqual(
            ("sqlite3.OperationalError", "interrupted"), (answered.value["type"], answered.value["message"])
        )

    def test_the_connection_is_good_for_more_after_that(self) -> None:
        """What was aborted is forgotten."""
        self.perform("queries.slow", {"rows": 5_000_000}, cancelled=True)
        self.assertEqual(3, len(self.users()))


class SleepTests(QueriesTestCase):
    """The query that waits."""

    def test_the_database_waits(self) -> None:
        """By a function of the connection."""
        slept: list[float] = []
        self.patch(self.module.time, "sleep", slept.append)
        self.assertIsNone(self.perform("queries.sleep", {"seconds": 0.5}).error)
        self.assertEqual([0.5], slept)

    def test_a_time_is_bounded(self) -> None:
        """And a number."""
        for seconds in (-1, 61, "1", None, True, float("nan")):
            self.assert_raised('"seconds", from 0 to 60', "queries.sleep", {"seconds": seconds})


class TableTests(QueriesTestCase):
    """The sample table."""

    def test_a_table_that_is_there_is_left_as_it_is(self) -> None:
        """A user that was deleted doesn't come back."""
        self.users()
        self.change("DELETE FROM users WHERE name = 'Morpheus'")
        self.serve(self.path)
        self.assertEqual([TRINITY, NEO], self.users())

    def test_a_table_of_other_columns_is_an_error_that_says_so(self) -> None:
        """It may be anybody's."""
        self.change("CREATE TABLE users (login TEXT)")
        self.assert_raised("no such column: id", "queries.users", {"flag": 1})

    def test_two_that_find_none_both_go_on(self) -> None:
        """The later one finds that all is there."""
        self.patch(self.module, "FIND_TABLE", "SELECT 1 WHERE false")
        for _ in range(2):
            self.serve(self.path)
            self.assertEqual([TRINITY, MORPHEUS, NEO], self.users())

    def test_nobody_sees_it_half_made(self) -> None:
        """It is there for others when it is filled."""
        seen: list[Any] = []

        def look() -> Any:
            other = sqlite3.connect(self.path)
            seen.append(other.execute(self.module.FIND_TABLE).fetchone())
            other.close()
            yield (7, "Switch", 1)

        self.patch(self.module, "USERS", look())
        self.assertEqual(["Switch"], [user["name"] for user in self.users()])
        self.assertEqual([None], seen)


class ConnectionTests(QueriesTestCase):
    """Which connections there are."""

    def setUp(self) -> None:
        super().setUp()
        self.opened: list[Path] = []
        connect = self.module.connect

        def connect_and_count(path: Path) -> sqlite3.Connection:
            self.opened.append(path)
            connection: sqlite3.Connection = connect(path)
            return connection

        self.patch(self.module, "connect", connect_and_count)

    def test_none_is_made_before_it_is_needed(self) -> None:
        """Importing the module touches no file."""
        self.assertEqual([], self.opened)
        self.assertFalse(self.path.exists())

    def test_a_thread_keeps_its_connection(self) -> None:
        """For all its queries."""
        self.users()
        self.users()
        self.assertEqual([self.path], self.opened)

    def test_each_thread_has_its_own(self) -> None:
        """SQLite's may not be shared."""
        queries = self.serve(self.path)
        rows: list[Any] = []

        def ask() -> None:
            rows.append(queries.c_users({"flag": 1}))
            queries.close()

        self.users()
        in_threads(ask, 2)
        self.assertEqual([self.path] * 3, self.opened)
        self.assertEqual([[TRINITY, MORPHEUS, NEO]] * 2, rows)

    def test_one_that_was_closed_is_made_anew(self) -> None:
        """Closing twice is fine, too."""
        queries = self.serve(self.path)
        self.users()
        queries.close()
        queries.close()
        self.users()
        self.assertEqual([self.path] * 2, self.opened)


class PathTests(QueriesTestCase):
    """Where the database is."""

    def test_the_environment_names_it(self) -> None:
        """By a variable of crew's."""
        os.environ["CREW_QUERIES_DATABASE"] = "/srv/users.sqlite3"
        self.assertEqual(Path("/srv/users.sqlite3"), self.module.database_path())

    def test_else_it_is_in_the_temporary_directory(self) -> None:
        """Each user has another, since the directory is everybody's."""
        for variables in ({}, {"CREW_QUERIES_DATABASE": ""}):
            os.environ.pop("CREW_QUERIES_DATABASE", None)
            os.environ.update(variables)
            path = self.module.database_path()
            self.assertEqual(Path(tempfile.gettempdir()), path.parent)
            self.assertIn(str(os.getuid()), path.name)

    def test_a_file_that_cant_be_used_is_named_with_the_remedy(self) -> None:
        """Be it no file, or no database."""
        self.path.mkdir()
        nothing_like_it = Path(self.mktemp())
        nothing_like_it.write_text("Follow the white rabbit.\n" * 100)
        for path, why in ((self.path, "unable to open database file"), (nothing_like_it, "not a database")):
            self.serve(path)
            for text in (str(path), why, "CREW_QUERIES_DATABASE"):
                self.assert_raised(text, "queries.users", {"flag": 1})

    def test_a_connection_that_fails_is_closed(self) -> None:
        """It would be in nobody's hands."""
        made: list[sqlite3.Connection] = []
        self.path.write_text("Follow the white rabbit.\n" * 100)
        connect = sqlite3.connect

        def connect_and_keep(*args: Any, **options: Any) -> sqlite3.Connection:
            made.append(connect(*args, **options))
            return made[-1]

        self.patch(sqlite3, "connect", connect_and_keep)
        self.perform("queries.users", {"flag": 1})
        (connection,) = made
        error = self.assertRaises(sqlite3.ProgrammingError, connection.execute, "SELECT 1")
        self.assertIn("closed", str(error))


class OnServer:
    """
    Tests with a database of the test's own on a server of the machine, where it has one.
    """

    make: Any

    def setUp(self) -> None:
        self.module = self.load("queries")
        self.name = f"crew_{uuid4().hex[:12]}"
        self.queries = self.module.ServerQueries(self.make())
        self.addCleanup(self.queries.close)
        self.use({"service": Service("queries", self.queries)})

    def test_users_are_those_of_sqlite(self) -> None:
        """In a table that is made where there is none, and left as it is where there is one."""
        for _ in range(2):
            self.assertEqual([TRINITY, MORPHEUS, NEO], self.perform("queries.users", {"flag": 1}).value)
            self.queries.close()

    def test_it_counts_and_waits(self) -> None:
        """Beyond a thousand, too."""
        self.assertEqual([{"counted": 5000}], self.perform("queries.slow", {"rows": 5000}).value)
        self.assertEqual([{"slept": 0}], self.perform("queries.sleep", {"seconds": 0.01}).value)

    def test_the_server_ends_what_is_over_its_time(self) -> None:
        """Since no exception reaches into a driver; the next query is as the first."""
        self.patch(Request, "time_left", 0.2)
        began = time.monotonic()
        answered = self.perform("queries.slow", {"rows": 2_000_000_000})
        self.assertEqual("raised", answered.error, answered.value)
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(3, len(self.perform("queries.users", {"flag": 1}).value))


class PostgreSQLTests(OnServer, ServiceTestCase):
    """PostgreSQL."""

    def make(self) -> str:
        url = "postgresql://postgres@127.0.0.1:5432/test"
        try:
            import psycopg

            server = psycopg.connect(url, autocommit=True, connect_timeout=3)
        except Exception as error:
            raise SkipTest(f"no PostgreSQL to try: {str(error).splitlines()[0]}") from None
        self.addCleanup(server.close)
        server.execute(f"CREATE SCHEMA {self.name}")
        self.addCleanup(server.execute, f"DROP SCHEMA {self.name} CASCADE")
        return f"{url}?options=-csearch_path%3D{self.name}"


class MariaDBTests(OnServer, ServiceTestCase):
    """MariaDB."""

    def make(self) -> str:
        try:
            import pymysql

            server = pymysql.connect(host="127.0.0.1", user="root", autocommit=True, connect_timeout=3)
        except Exception as error:
            raise SkipTest(f"no MariaDB to try: {error}") from None
        self.addCleanup(server.close)
        server.query(f"CREATE DATABASE {self.name}")
        self.addCleanup(server.query, f"DROP DATABASE {self.name}")
        return f"mysql://root@127.0.0.1:3306/{self.name}"


class ChoiceTests(QueriesTestCase):
    """Which database it is."""

    def test_a_url_is_a_server(self) -> None:
        """Whose driver is not needed until then."""
        for named in ("postgresql://a@b/c", "postgres://a@b/c", "mysql://a@b/c"):
            os.environ["CREW_QUERIES_DATABASE"] = named
            self.assertIsInstance(self.module.make_queries(), self.module.ServerQueries)
        os.environ["CREW_QUERIES_DATABASE"] = "/srv/users.sqlite3"
        self.assertNotIsInstance(self.module.make_queries(), self.module.ServerQueries)


def in_threads(function: Any, count: int) -> None:
    """Call a function in so many threads, and wait for them."""
    threads = [Thread(target=function, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
