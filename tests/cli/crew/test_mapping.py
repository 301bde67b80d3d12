"""``crew map``, as people and scripts run it, and its parts."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.crew.mapping import Counter, Meter
from tests.cli.crew.support import CrewTestCase, Done, clean_environment, command
from tests.cli.programs import PATIENCE


class MapTestCase(CrewTestCase):
    """Tests with a worker of the laboratory."""

    def setUp(self) -> None:
        super().setUp()
        self.lab = self.worker()
        self.echo = f"{self.name}.echo"

    def lines(self, done: Done) -> list[Any]:
        """What it printed, a value a line."""
        return [json.loads(line) for line in done.out.splitlines()]

    def started(self, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Start a command with streams of the test's."""
        variables = clean_environment(CREW_BROKER=self.url, COLUMNS="100")
        process = subprocess.Popen(command(*arguments), cwd=self.folder, env=variables, **streams)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                self.addCleanup(stream.close)
        return process


class ItemsTests(MapTestCase):
    """Where items come from, and what is printed for them."""

    def test_every_line_has_its_result(self) -> None:
        """In order; of standard input, a file, an array; empty lines are none."""
        items = [{"a": 1}, None, "\u00e9", [1.5, True]]
        lines = "".join(f"{json.dumps(item)}\n\n" for item in items)
        self.assertEqual(items, self.lines(self.fine("map", self.echo, stdin=lines)))
        path = self.write("items.jsonl", lines.rstrip())
        self.assertEqual(items, self.lines(self.fine("map", self.echo, "--items", path, "--window=1")))
        array = self.write("items.json", json.dumps(items, indent=2))
        options = ("--json-array", "--items", array, "--serializer=json", "--priority=255")
        self.assertEqual(items, self.lines(self.fine("map", self.echo, *options)))
        self.lab.wait_for(r"echo None 10 \{\}")
        values = [{"value": item} for item in items]
        self.assertEqual(values, self.lines(self.fine("map", self.echo, "--items", path, "--json")))
        self.assertEqual("", self.fine("map", self.echo).out)

    def test_results_may_name_their_items(self) -> None:
        """Errors as well; for people and for programs it is the same."""
        sleep = f"{self.name}.sleep"
        for option in ((), ("--json",)):
            options = ("--with-items", "--unordered", "--errors=value", "--stragglers=3", *option)
            done = self.crew("map", sleep, *options, stdin='0\n"x"\n')
            self.assertEqual(1, done.code)
            ended = {json.dumps(line["item"]): line for line in self.lines(done)}
            self.assertEqual({"item": 0, "value": "slept"}, ended["0"])
            self.assertEqual(("RemoteError", "TypeError"), (ended['"x"']["error"], ended['"x"']["type"]))

    def test_many_items(self) -> None:
        """More than a window."""
        done = self.fine("map", self.echo, "--window=20", stdin="\n".join(map(str, range(500))))
        self.assertEqual(list(range(500)), self.lines(done))

    def test_results_may_come_as_they_are_answered(self) -> None:
        """The quick one first."""
        sleep = f"{self.name}.sleep"
        slow = self.start_program(
            [
                "/bin/sh",
                "-c",
                f"printf '0.3\\n\"x\"\\n' | {' '.join(command('map', sleep))} --unordered --errors value",
            ]
        )
        slow.ended()
        self.assertEqual(
            ["RemoteError", "slept"], [_short(json.loads(line)) for line in slow.out.splitlines()]
        )

    def test_results_come_while_items_do(self) -> None:
        """A pipe that has more later holds nothing up; an interrupt ends it there."""
        process = self.started("map", self.echo, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        for number in (b"1\n", b"2\n"):
            process.stdin.write(number)
            process.stdin.flush()
            self.assertEqual(number, process.stdout.readline())
        process.send_signal(signal.SIGINT)
        self.assertEqual((130, b""), (process.wait(PATIENCE), process.stdout.read()))

    def test_a_reader_that_has_had_enough_is_no_error(self) -> None:
        """As of ``crew map ... | head -1``."""
        words = " ".join(command("map", self.echo, "--window=2"))
        head = self.start_program(
            ["/bin/bash", "-c", f"seq 2000 | {words} | head -1; echo ${{PIPESTATUS[@]}}"]
        )
        head.ended()
        self.assertRegex(head.out, r"^1\n\d+ 0 0\n$")
        self.assertEqual("", head.err)


class ErrorTests(MapTestCase):
    """What goes wrong."""

    def test_the_first_error_ends_it_with_1(self) -> None:
        """It is told as that of a call."""
        done = self.crew("map", f"{self.name}.fail", "--retries=1", stdin="1\n2\n")
        self.assertEqual((1, ""), (done.code, done.out))
        self.assertIn("crew map: ValueError: \\u001b[31mno\n\nRemote traceback (worker lab", done.err)
        stats = self.fine("call", f"mgt.{self.name}", '{"c": "stats"}').json()
        self.assertIn(stats["exceptions"], (2, 3, 4))

    def test_errors_may_stand_in_the_place_of_results(self) -> None:
        """All items are done; the exit code tells of it."""
        done = self.crew("map", f"{self.name}.sleep", "--errors=value", stdin='0\n"x"\n0\n')
        self.assertEqual((1, "crew map: 1 of 3 failed\n"), (done.code, done.err))
        first, error, last = self.lines(done)
        self.assertEqual(
            ("slept", "RemoteError", "TypeError", "slept"), (first, error["error"], error["type"], last)
        )

    def test_calls_that_fail_are_made_again(self) -> None:
        """So often."""
        fail = f"{self.name}.fail"
        self.crew("map", fail, "--errors=value", "--retries=2", "--retry-pause=0.1", stdin="1\n2\n")
        stats = self.fine("call", f"mgt.{self.name}", '{"c": "stats"}').json()
        self.assertEqual(6, stats["exceptions"])

    def test_wrong_items_end_it_with_2(self) -> None:
        """Which one is told."""
        for words, stdin, options in (
            ("line 3 of standard input is not JSON: Expecting value", "1\n\nx\n", ()),
            ("standard input is no JSON array: leave --json-array out", "1\n", ("--json-array",)),
            ("standard input is not JSON", "[1", ("--json-array",)),
            ("the file '/nowhere' can't be read: No such file", "", ("--items=/nowhere",)),
            ("--window: takes a whole number from 1 to 100000", "", ("--window=0",)),
            ("--retries: takes a whole number from 0", "", ("--retries=-1",)),
            ("--retry-pause: takes a number of seconds, 0 to 60", "", ("--retry-pause=61",)),
            ("--stragglers: takes a whole number from 0", "", ("--stragglers=-1",)),
        ):
            done = self.wrong(2, words, "map", self.echo, *options, stdin=stdin)
            self.assertEqual(1, done.err.count("\n"), done.err)
        with open(os.path.join(self.folder, "latin"), "wb") as file:
            file.write(b'"\xff"\n')
        self.wrong(
            2, "line 1 of the file 'latin' is not UTF-8 text: byte 1", "map", self.echo, "--items=latin"
        )


class TerminalTests(MapTestCase):
    """What people see of how far it is."""

    def shown(self, *options: str) -> str:
        """What a terminal for its errors shows while it has three items."""
        path = self.write("items.json", "[1, 2, 3]")
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        process = self.started(
            "map", self.echo, "--json-array", "--items", path, *options, stdout=subprocess.PIPE, stderr=slave
        )
        os.close(slave)
        text = b""
        while data := _read(master):
            text += data
        assert process.stdout is not None
        self.assertEqual((b"1\n2\n3\n", 0), (process.stdout.read(), process.wait(PATIENCE)))
        return text.decode()

    def test_a_bar_is_drawn(self) -> None:
        """With how many there are, and no control character but its own."""
        text = self.shown()
        self.assertIn("\u2501", text)
        self.assertIn("3/3", text)

    def test_there_is_a_count_where_rich_is_not_there(self) -> None:
        """In plain text."""
        self.write("rich.py", "raise ImportError('not here')")
        text = self.shown()
        self.assertTrue(text.isascii())
        self.assertTrue(text.rstrip().endswith("\r3 of 3 done\x1b[K"), text)

    def test_results_on_a_terminal_have_none(self) -> None:
        """They are seen themselves."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        process = self.started("map", self.echo, stdin=subprocess.PIPE, stdout=slave, stderr=slave)
        os.close(slave)
        process.communicate(b"1\n2\n", PATIENCE)
        self.assertEqual(b"1\r\n2\r\n", _read(master))


class MeterTests(SynchronousTestCase):
    """Without a terminal."""

    def test_it_moves_as_often_as_people_look(self) -> None:
        """And once more at the end."""
        times = iter([0.0, 0.0, 0.05, 0.11])
        stream = io.StringIO()
        meter = Meter(Counter(stream, 5), lambda: next(times), 5)
        for done in (1, 2, 3):
            meter.progress(done, 5)
        meter.stop()
        shown = stream.getvalue().replace("\x1b[K", "").split("\r")
        self.assertEqual(
            [
                "",
                "1 of 5 done, 4 out",
                "3 of 5 done, 2 out, 27/s, 0:00:00 left",
                "3 of 5 done\n",
            ],
            shown,
        )


def _short(value: Any) -> Any:
    return value["error"] if isinstance(value, dict) else value


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65_536)
    except OSError:
        # What a terminal says at its end.
        return b""
