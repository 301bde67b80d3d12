"""The parts of ``crew`` that need no broker."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.inspection import Depth
from crew_tx.cli.crew import control, top
from crew_tx.cli.crew.completion import words_of
from crew_tx.cli.crew.data import read_data
from crew_tx.cli.crew.events import EventPrinter
from crew_tx.cli.crew.exits import FAILED, OK, UNREACHABLE, USAGE, UsageError, code_of, facts_of, text_of
from crew_tx.cli.crew.output import Output
from crew_tx.cli.crew.parser import make_parser
from crew_tx.cli.crew.queues import queue_names
from crew_tx.cli.crew.running import RunInterruptedError, Running
from crew_tx.cli.crew.text import aligned, cell, escaped, json_text, plain
from crew_tx.cli.crew.told import brokers_of
from crew_tx.cli.crew.top import Look, pause, rates_between
from crew_tx.errors import (
    AccessRefusedError,
    ConfigurationError,
    ConnectionLostError,
    DecodeError,
    EncodeError,
    InvalidArgumentError,
    NoWorkersError,
    OutboxFullError,
    PublishTimeoutError,
    RemoteError,
)
from crew_tx.message import Event
from tests.cli.crew.support import clean_environment


class TextTests(SynchronousTestCase):
    """What a terminal is shown."""

    def test_unprintable_characters_are_escaped_as_in_json(self) -> None:
        """But for newlines and tabs; also those that turn text around."""
        self.assertEqual("a\n\té\\u001b\\u009b\\u202e\\ud83d", escaped("a\n\té\x1b\x9b\u202e\ud83d"))

    def test_json_of_any_value_can_be_read_again(self) -> None:
        """And is printable, whatever was in it."""
        text = json_text({"a\x9b": ["\x7f", None, True, 1.5]})
        self.assertTrue(text.isprintable())
        self.assertEqual({"a\x9b": ["\x7f", None, True, 1.5]}, json.loads(text))

    def test_what_json_lacks_is_written_in_its_types(self) -> None:
        """Bytes, times, other keys, sets, and numbers that are none."""
        when = datetime(2026, 1, 2, tzinfo=UTC)
        self.assertEqual(
            {"1": {"base64": "AAE="}, "None": "2026-01-02T00:00:00+00:00", "c": [3], "d": "nan", "e": "inf"},
            plain({1: b"\x00\x01", None: when, "c": {3}, "d": float("nan"), "e": float("inf")}),
        )

    def test_a_value_without_end_is_given_one(self) -> None:
        """Deeper than anybody reads."""
        value: list[Any] = []
        value.append(value)
        self.assertIn('"..."', json_text(value))

    def test_a_cell_is_one_short_line(self) -> None:
        """Whatever it has."""
        self.assertEqual(
            ["-", "yes", "1.500", "3", "a\\nb\\u001b", '{"x": 1}'],
            [cell(each) for each in (None, True, 1.5, 3, "a\nb\x1b", {"x": 1})],
        )
        self.assertLess(len(cell("x" * 1000)), 250)

    def test_columns_are_aligned(self) -> None:
        """Without blanks at the ends of lines."""
        self.assertEqual("A     BC\nlong  x", aligned(("a", "bc"), [["long", "x"]]))
        self.assertEqual("A\nb", aligned(("a",), [["b"]]))


class DataTests(SynchronousTestCase):
    """What is sent."""

    def test_json_is_read_from_the_argument(self) -> None:
        """Without one it is null."""
        self.assertEqual(
            [{"x": [1, "é"]}, None], [read_data('{"x": [1, "é"]}', "cbor"), read_data(None, "json")]
        )

    def test_texts_and_bytes_are_taken_as_they_are(self) -> None:
        """From wherever they come."""
        path = os.path.abspath(self.mktemp())
        with open(path, "wb") as file:
            file.write(b"\xff{")
        self.assertEqual(
            ("{x", b"{x", b"\xff{"),
            (read_data("{x", "text"), read_data("{x", "bytes"), read_data(f"@{path}", "bytes")),
        )
        self.assertIn(
            "is not UTF-8 text: byte 0", str(self.assertRaises(UsageError, read_data, f"@{path}", "json"))
        )

    def test_the_place_of_a_mistake_is_told(self) -> None:
        """And a little of what is there, escaped."""
        error = str(self.assertRaises(UsageError, read_data, '{"a": 1,\n"b": \x1b}', "cbor"))
        self.assertIn("Expecting value at line 2, column 6", error)
        self.assertNotIn("\x1b", error)

    def test_what_is_too_deep_is_refused(self) -> None:
        """And not a failure of ours."""
        self.assertRaises(UsageError, read_data, "[" * 100_000, "json")


class ExitTests(SynchronousTestCase):
    """Errors as exit codes and texts."""

    def test_each_fault_has_its_code(self) -> None:
        """The caller's, the connection's, and all others."""
        for error, code in (
            (InvalidArgumentError("a"), USAGE),
            (EncodeError("a"), USAGE),
            (ConfigurationError("a"), USAGE),
            (UsageError("a"), USAGE),
            (OutboxFullError(1, 2), FAILED),
            (ConnectionLostError("a"), UNREACHABLE),
            (AccessRefusedError("a"), UNREACHABLE),
            (NoWorkersError("a"), FAILED),
            (RemoteError("ValueError", "no"), FAILED),
        ):
            self.assertEqual(code, code_of(error), error)

    def test_an_error_has_its_remedy(self) -> None:
        """Where the text itself has none."""
        self.assertEqual("a; give the user the permission that is missing", text_of(AccessRefusedError("a")))
        self.assertEqual("ValueError: no", text_of(RemoteError("ValueError", "no")))

    def test_programs_are_given_its_facts(self) -> None:
        """Of a task's, what it raised and where."""
        self.assertEqual(
            {"error": "RemoteError", "message": "no", "type": "ValueError", "traceback": "t", "worker": "w"},
            facts_of(RemoteError("ValueError", "no", "t", worker="w")),
        )
        self.assertEqual({"error": "DecodeError", "message": "a"}, facts_of(DecodeError("a")))


class ParserTests(SynchronousTestCase):
    """The command line."""

    def refused(self, *arguments: str) -> str:
        err = io.StringIO()
        self.patch(sys, "stderr", err)
        error = self.assertRaises(SystemExit, make_parser().parse_args, arguments)
        self.assertEqual(2, error.code)
        self.assertEqual(1, err.getvalue().count("\n"))
        return err.getvalue()

    def test_what_is_wrong_is_told_in_one_line(self) -> None:
        """With the way to the help."""
        self.assertEqual(
            "crew call: the following arguments are required: TASK (see crew call --help)\n",
            self.refused("call"),
        )
        for words, arguments in (
            ("--priority: takes a whole number from 0 to 255, not '256'", ("call", "a", "--priority=256")),
            ("--header: takes name=value, not 'a'", ("send", "a", "--header=a")),
            ("takes a number of seconds, over 0", ("ping", "--timeout=0")),
            ("all users of the machine would see it", ("ping", "--password=secret")),
            ("unrecognized arguments: --prio", ("call", "a", "--prio=1")),
        ):
            self.assertIn(words, self.refused(*arguments))

    def test_common_options_may_come_before_the_verb_or_behind_it(self) -> None:
        """The one behind is heard, where there are two."""
        parse = make_parser().parse_args
        self.assertEqual("u", parse(["--broker=u", "--json", "ping"]).broker)
        both = parse(["--broker=u", "--json", "ping", "--broker=v"])
        self.assertEqual(("v", True, False), (both.broker, both.json, both.verbose))

    def test_every_verb_has_an_example_that_it_takes(self) -> None:
        """As its help shows it."""
        parser = make_parser()
        verbs = [words.path for words in words_of(parser) if words.path and words.path != ("dead",)]
        self.assertGreater(len(verbs), 20)
        for path in verbs:
            help = self.help_of(parser, path)
            lines = help.partition("example:\n")[2].strip().splitlines()
            self.assertTrue(lines, path)
            for line in lines:
                self.check_example(line.strip(), path)

    def help_of(self, parser: argparse.ArgumentParser, path: tuple[str, ...]) -> str:
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        self.assertRaises(SystemExit, parser.parse_args, [*path, "--help"])
        return out.getvalue()

    def check_example(self, line: str, path: tuple[str, ...]) -> None:
        import shlex

        words = shlex.split(line.removeprefix('eval "$(').partition(">")[0].removesuffix(')"'))
        self.assertEqual(["crew", *path], words[: len(path) + 1])
        self.assertEqual(path[0], make_parser().parse_args(words[1:]).verb)

    def test_the_verbs_functions_are_there(self) -> None:
        """By the names that the parser has."""
        from crew_tx.cli.crew.main import _verb

        for line in (
            "call a",
            "send a",
            "publish a",
            "subscribe a",
            "ping",
            "stats",
            "tasks",
            "active",
            "stacks",
            "errors",
            "pause",
            "resume",
            "drain",
            "kill",
            "threads 1",
            "cancel a",
            "eval a",
            "top",
            "queues",
            "dead list",
            "dead requeue",
            "dead purge",
            "init",
            "completion bash",
        ):
            self.assertTrue(callable(_verb(make_parser().parse_args(line.split()).run)), line)


class BrokersTests(SynchronousTestCase):
    """Which broker it is told of."""

    def setUp(self) -> None:
        self.environment: dict[str, str] = {}
        self.patch(os, "environ", self.environment)

    def told(self, **command_line: str) -> list[str]:
        return [str(each) for each in brokers_of(command_line)]

    def file(self, text: str) -> str:
        path = os.path.abspath(self.mktemp())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_what_only_a_worker_can_be_told_is_passed_over(self) -> None:
        """In the environment, and in the workers' table."""
        self.environment["CREW_THREADS"] = "wrong"
        path = self.file("[worker]\nthreads = 3\nhost = 'h'\n")
        self.assertEqual(["amqp://guest@h:5672/%2F"], self.told(config=path))

    def test_its_own_table_comes_before_the_workers(self) -> None:
        """And knows what it can be told."""
        path = self.file("[worker]\nhost = 'h'\n[crew]\nvhost = 'v'\n")
        self.assertEqual(["amqp://guest@127.0.0.1:5672/v"], self.told(config=path))
        path = self.file("[crew]\nthreads = 3\n")
        error = self.assertRaises(ConfigurationError, self.told, config=path)
        self.assertIn(
            "[crew] has an unknown key 'threads'; known are broker, host, password-file", str(error)
        )


class OutputTests(SynchronousTestCase):
    """Where answers go."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()

    def output(self, as_json: bool = False) -> Output:
        return Output(self.out, self.err, "crew x", as_json=as_json)

    def test_an_error_is_told_to_people_and_to_programs(self) -> None:
        """Each where it reads."""
        self.output(as_json=True).error(DecodeError("a\x1b"))
        self.assertEqual({"error": "DecodeError", "message": "a\x1b"}, json.loads(self.out.getvalue()))
        self.assertEqual("crew x: a\\u001b\n", self.err.getvalue())

    def test_a_table_without_rows_is_told_of(self) -> None:
        """To people only; a program reads the facts."""
        self.output().table(("a",), [], [], "there is none")
        self.assertEqual(("", "crew x: there is none\n"), (self.out.getvalue(), self.err.getvalue()))
        self.output(as_json=True).table(("a",), [], [], "there is none")
        self.assertEqual("[]\n", self.out.getvalue())

    def test_events_that_cannot_be_printed_end_the_printing(self) -> None:
        """Whoever read them is gone."""
        printer = EventPrinter(self.output(), None)
        self.out.close()
        printer.received(1, Event("a", 1, "", {}, None, 0, False))
        printer.received(2, Event("a", 2, "", {}, None, 0, False))
        self.failureResultOf(printer.done, ValueError)

    def test_so_many_events_are_printed(self) -> None:
        """And not one more."""
        printer = EventPrinter(self.output(), 2)
        for number in (1, 2, 3):
            printer.received(number, Event("a", number, "", {}, None, 0, False))
        self.successResultOf(printer.done)
        self.assertEqual("a 1\na 2\n", self.out.getvalue())


class Asked:
    """In place of a client: its questions are answered by the test."""

    def __init__(self) -> None:
        self.questions: list[Deferred[list[dict[str, Any]]]] = []

    def control(self, name: str, **options: Any) -> Deferred[list[dict[str, Any]]]:
        self.questions.append(Deferred())
        return self.questions[-1]


class WatchTests(SynchronousTestCase):
    """Looks, while the connection comes and goes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked = Asked()
        self.session = SimpleNamespace(
            reactor=self.clock,
            arguments=argparse.Namespace(interval=1.0, once=True),
            client=lambda: nullcontext(self.asked),
            connection=lambda: nullcontext(None),
        )
        self.shown: list[Look] = []
        self.patch(top, "Inspector", lambda connection: None)

    def watch(self, look: Look | None) -> tuple[Any, Deferred[bool]]:
        """One that has had a look, or not; and its run."""
        show: Any = SimpleNamespace(show=self.shown.append)
        watch = top.Watch(self.session, show)  # type: ignore[arg-type]
        watch.look = look
        return watch, Deferred.fromCoroutine(watch.run())

    def test_a_connection_that_is_away_ends_no_watch(self) -> None:
        """All questions fail, each with an error of its own, and none is left over."""
        for error in (ConnectionLostError("gone"), PublishTimeoutError("not sent", maybe_sent=False)):
            self.asked.questions.clear()
            _, run = self.watch(Look(1.0, [], [], [], {}))
            for question in self.asked.questions:
                question.errback(error)
            self.assertIs(False, self.successResultOf(run))
        self.assertEqual((3, []), (len(self.asked.questions), self.shown))

    def test_without_a_look_before_it_is_an_error(self) -> None:
        """As any other error always is."""
        for look, error in ((None, ConnectionLostError), (Look(1.0, [], [], [], {}), AccessRefusedError)):
            self.asked.questions.clear()
            _, run = self.watch(look)
            for question in self.asked.questions:
                question.errback(error("no"))
            self.failureResultOf(run, error)


class TopTests(SynchronousTestCase):
    """What is seen."""

    def worker(self, wid: str, processed: int) -> dict[str, Any]:
        return {"wid": wid, "processed": processed, "exceptions": 1, "timeouts": None}

    def look(self, time: float, *workers: dict[str, Any], rates: dict[str, float] | None = None) -> Look:
        active = [{"wid": "w", "active": [{"task": "t", "seconds": 2.0}, {"task": "u", "seconds": 30.0}]}]
        return Look(time, list(workers), active, [Depth("q", 3, 1)], rates or {})

    def test_rates_are_of_workers_that_were_there_before(self) -> None:
        """Between two looks, errors counted too."""
        before = self.look(10.0, self.worker("a", 5), self.worker("b", 5))
        now = [self.worker("a", 25), self.worker("c", 50)]
        self.assertEqual({"a": 10.0}, rates_between(before, 12.0, now))
        self.assertEqual({}, rates_between(None, 12.0, now))
        self.assertEqual({}, rates_between(before, 10.0, now))

    def test_people_see_tables_and_programs_facts(self) -> None:
        """The longest that runs comes first."""
        look = self.look(1.0, self.worker("a", 5), rates={"a": 2.5})
        workers, queues, running = look.tables()
        self.assertEqual(
            ("1 workers, 2.5 calls/s", ["a", "-", "ready", "2.5"]), (workers[0], workers[2][0][:4])
        )
        self.assertEqual([["q", "3", "1"]], queues[2])
        self.assertEqual(["u", "t"], [row[0] for row in running[2]])
        self.assertEqual(2.5, json.loads(json_text(look.facts()))["workers"][0]["rate"])

    def test_looks_are_an_interval_apart(self) -> None:
        """However long each took; never without a pause."""
        self.assertEqual([1.5, 1.0, 0.05], [pause(10.0, now, 2.0) for now in (10.5, 11.0, 12.5)])

    def test_the_queues_of_all_tasks_are_known(self) -> None:
        """Once each, and that of dead letters."""
        answers = [{"tasks": [{"queue": "b"}, {"queue": "a"}]}, {"tasks": [{"queue": "a"}]}, {"error": "no"}]
        self.assertEqual(["crew.tasks.a", "crew.tasks.b", "crew.dead"], queue_names(answers))


class AnswerTests(SynchronousTestCase):
    """What workers say, who may say anything."""

    ODD: tuple[Any, ...] = (None, 1, "x", [1], {"a": 1}, 1e300, True)

    def setUp(self) -> None:
        self.told: list[Any] = []
        self.output: Any = SimpleNamespace(
            as_json=False,
            table=lambda columns, rows, facts, empty="": self.told.extend([*map(cell, row)] for row in rows),
            text=lambda text, facts: self.told.append(text),
            note=self.told.append,
        )

    def ask(self, verb: Any, answer: dict[str, Any]) -> None:
        client = SimpleNamespace(control=lambda *arguments: succeed([{"wid": "w", **answer}]))
        arguments = argparse.Namespace(target=None, timeout=1.0, expect=None)
        session: Any = SimpleNamespace(
            arguments=arguments, output=self.output, client=lambda: nullcontext(client)
        )
        self.assertEqual(OK, self.successResultOf(Deferred.fromCoroutine(verb(session))))

    def test_odd_answers_end_no_verb(self) -> None:
        """Else one worker could keep people from seeing what the others say."""
        names = ("time", "seconds", "stack", "queue", "task", "message")
        for odd in self.ODD:
            lists = [odd, [odd], *([{name: odd}] for name in names)]
            for verb in (control.stats, control.tasks, control.active, control.stacks, control.errors):
                for each in lists:
                    name = "waittimes" if verb is control.stats else verb.__name__
                    self.ask(verb, {name: each, "busy": odd, "processed": odd})
            for each in lists:
                self.assertIn("crew.dead", queue_names([{"tasks": each}]))
            worker = {"wid": "w", "processed": odd}
            rates_between(Look(1.0, [worker], [], [], {}), 2.0, [worker])

    def test_a_time_is_shown_where_it_is_one(self) -> None:
        """Of errors, the latest first."""
        self.ask(control.errors, {"errors": [{"time": 1e15, "task": "a"}, {"time": 0.0, "task": "b"}]})
        self.assertEqual([("-", "a"), ("b",)], [(self.told[0][0], self.told[0][2]), (self.told[1][2],)])


class RunReactor:
    """Runs what it is told when it is run, and then what comes from elsewhere."""

    def __init__(self) -> None:
        self.hooks: list[Any] = []
        self.outside: list[Any] = []
        self.stops = 0

    def callWhenRunning(self, function: Any, *arguments: Any) -> None:
        self.hooks.append(lambda: function(*arguments))

    def callFromThread(self, function: Any) -> None:
        function()

    def run(self, installSignalHandlers: bool) -> None:
        assert not installSignalHandlers
        for each in (*self.hooks, *self.outside):
            each()

    def stop(self) -> None:
        self.stops += 1


class RunningTests(SynchronousTestCase):
    """One coroutine on a reactor."""

    def setUp(self) -> None:
        self.reactor = RunReactor()
        self.handlers: dict[int, Any] = {}
        self.left: list[int] = []
        self.running = Running(self.reactor, set_handler=self.handlers.__setitem__, leave=self.left.append)

    def test_what_it_returns_or_raises_comes_back(self) -> None:
        """And the reactor is stopped."""

        async def returns() -> int:
            return 3

        async def raises() -> int:
            raise DecodeError("a")

        self.assertEqual(3, self.running.run(returns))
        self.assertRaises(
            DecodeError, Running(self.reactor, set_handler=self.handlers.__setitem__).run, raises
        )

    def test_a_signal_lets_it_close_what_it_has_open(self) -> None:
        """A second one ends the process."""
        log: list[str] = []
        closing: Deferred[None] = Deferred()

        async def waits() -> int:
            try:
                await Deferred()
            finally:
                log.append("closing")
                await closing
                log.append("closed")
            return OK

        self.reactor.outside = [
            lambda: self.handlers[signal.SIGINT](signal.SIGINT, None),
            lambda: self.assertEqual(["closing"], log),
            lambda: closing.callback(None),
        ]
        self.assertRaises(RunInterruptedError, self.running.run, waits)
        self.assertEqual((["closing", "closed"], 1, []), (log, self.reactor.stops, self.left))
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual([130], self.left)

    def test_a_cancelled_wait_without_a_signal_is_an_error(self) -> None:
        """It is not passed off as an interrupt."""

        async def cancelled() -> int:
            raise CancelledError

        self.assertRaises(CancelledError, self.running.run, cancelled)


class StartTests(SynchronousTestCase):
    """How much is loaded before a call is made."""

    def test_a_call_loads_neither_rich_nor_the_workers_side(self) -> None:
        """Which would cost it more time than the call takes."""
        source = (
            "import sys; import crew_tx.cli.crew.main, crew_tx.cli.crew.calls; "
            "print([name for name in ('rich', 'crew_tx.worker', 'twisted.python.usage', 'tomllib') "
            "if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, env=clean_environment()
        )
        self.assertEqual("[]", done.stdout.strip(), done.stderr)
