"""Calls and events by ``crew``, as people and scripts make them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import Any

from tests.cli.crew.support import ROOT, CrewTestCase, Terminal, clean_environment, command

READY = r"worker (worker-[0-9a-f]{32}) answers"


class ArpcTests(CrewTestCase):
    """arpc's three sessions, with three workers of its example."""

    def setUp(self) -> None:
        super().setUp()
        words = [sys.executable, "-m", "crew_tx.cli.child", str(ROOT / "services" / "example.py")]
        workers = [self.start_program(words) for _ in range(3)]
        self.ids = {worker.wait_for(READY)[0] for worker in workers}
        self.pids = {worker.process.pid for worker in workers}

    def control(self, key: str, name: str) -> list[dict[str, Any]]:
        """What workers answered, one line each."""
        done = self.fine("call", key, json.dumps({"c": name}), "--timeout=3")
        return [json.loads(line) for line in done.out.splitlines()]

    def test_they_answer_as_arpcs_did(self) -> None:
        """A call in both spellings; commands to all of a service, to one worker, to all there are."""
        for arguments in (
            ("example", '{"c":"add","x":10,"y":20}'),
            ("example.add", '{"x":10,"y":20}'),
        ):
            self.assertEqual({"res": 30}, self.fine("call", *arguments).json())
        for key in ("mgt.example", "mgt"):
            answers = self.control(key, "ping")
            self.assertEqual(self.ids, {answer["wid"] for answer in answers})
            self.assertEqual(self.pids, {answer["pid"] for answer in answers})
            self.assertEqual({socket.gethostname()}, {answer["host"] for answer in answers})
            self.assertEqual({"wid", "host", "pid"}, answers[0].keys())
        (one,) = self.control(f"mgt.{min(self.ids)}", "ping")
        self.assertEqual(min(self.ids), one["wid"])
        stats = self.control("mgt.example", "stats")
        self.assertEqual(
            (3, 2, 0), (len(stats), *(sum(each[n] for each in stats) for n in ("processed", "exceptions")))
        )
        self.assertEqual(2, sum(len(each["waittimes"]) for each in stats))


class CallTests(CrewTestCase):
    """A worker of our own, and what its calls come to."""

    def test_what_is_sent_comes_back(self) -> None:
        """From the argument, a file, standard input, as text and as nothing; with all that goes with it."""
        worker = self.worker()
        echo = f"{self.name}.echo"
        path = self.write("request.json", '{"a": [1, null]}')
        self.assertEqual({"a": [1, None]}, self.fine("call", echo, f"@{path}").json())
        self.assertEqual("\u00e9", self.fine("call", echo, "-", stdin='"\u00e9"').json())
        self.assertEqual("{no json", self.fine("call", echo, "{no json", "--serializer", "text").json())
        self.assertIsNone(self.fine("call", echo).json())
        options = ("--priority=255", "--header", "size=3", "--header=a=b=c", "--json", "--transient")
        reply = self.fine("call", echo, "7", "--call-id=mine", *options).json()
        self.assertEqual((7, {"colour": "blue"}), (reply["value"], reply["headers"]))
        self.assertTrue(reply["worker"].startswith(self.name))
        worker.wait_for(r"echo 7 10 \{'size': '3', 'a': 'b=c'\}")
        self.assertEqual("sent\n", self.fine("send", echo, '"one way"').out)
        worker.wait_for("echo one way 0")

    def test_errors_of_the_task_end_it_with_1(self) -> None:
        """What it raised, with its own traceback; a time limit that is over; in JSON for programs."""
        self.worker()
        done = self.crew("call", f"{self.name}.fail")
        self.assertEqual((1, ""), (done.code, done.out))
        self.assertIn("crew call: ValueError: \\u001b[31mno\n\nRemote traceback (worker lab", done.err)
        self.assertIn('    raise ValueError("\\x1b[31mno")', done.err)
        done = self.crew("call", f"{self.name}.fail", "--json")
        facts = done.json()
        self.assertEqual((1, "RemoteError", "ValueError"), (done.code, facts["error"], facts["type"]))
        self.assertNotIn("\x1b", done.out + done.err)
        self.wrong(1, "time limit", "call", f"{self.name}.sleep", "5", "--timeout=0.2")

    def test_calls_that_nobody_takes_end_it_with_1(self) -> None:
        """Unknown ones, those without a worker, those that waited long enough."""
        self.wrong(1, "no worker has ever declared the task 'nobody'; start one", "call", "nobody", "1")
        self.fine("init", "--task", self.name)
        self.wrong(1, "no worker of the task", "call", self.name, "--require-worker")
        self.wrong(1, "before it expired", "call", self.name, "--expiration=0.1")
        self.wrong(
            1, "no worker of the name, service or task 'nobody' answered", "ping", "nobody", "--timeout=0.1"
        )

    def test_wrong_use_ends_it_with_2(self) -> None:
        """Before anything is sent; the text has the remedy."""
        for words, arguments in (
            ("the data is not JSON: Expecting property name", ("call", "a", "{x: 1}")),
            ("the file '/nowhere' can't be read: No such file", ("call", "a", "@/nowhere")),
            ("crew: argument VERB: invalid choice: 'frob'", ("frob",)),
            ("the header", ("call", "a", "--header=CC=b")),
            ("a control command is a map with c", ("call", "mgt", "1")),
            ("give a TARGET, or --all for all workers", ("drain",)),
            ("--broker: the broker URL does not begin with amqp", ("ping", "--broker=http://u:secret@h")),
            ("this deletes all dead letters; say so by --yes", ("dead", "purge")),
        ):
            done = self.wrong(2, words, *arguments)
            self.assertEqual(1, done.err.count("\n"), done.err)
            self.assertNotIn("secret", done.err)

    def test_a_broker_that_refuses_or_is_away_ends_it_with_3(self) -> None:
        """With what to do about it, and no password."""
        away = "amqp://guest:secret@127.0.0.1:9"
        done = self.wrong(
            3, "no connection to the broker within 0.2 s", "ping", "--connect-timeout=0.2", CREW_BROKER=away
        )
        self.assertIn("start the broker, or give its URL as --broker or CREW_BROKER", done.err)
        self.wrong(3, "no connection", "dead", "list", "--connect-timeout=0.2", CREW_BROKER=away)
        path = self.write("password", "secret\n")
        done = self.wrong(3, "refused the user 'guest'", "ping", f"--password-file={path}")
        self.assertIn("--username and --password-file", done.err)
        self.assertNotIn("secret", done.err)

    def test_the_broker_is_found_as_a_worker_finds_it(self) -> None:
        """By options, before the environment, before a file."""
        host, _, rest = self.url.removeprefix("amqp://guest:guest@").partition(":")
        port = rest.partition("/")[0]
        nowhere = "amqp://127.0.0.1:9"
        path = self.write("crew.toml", f'[worker]\nhost = "{host}"\nport = {port}\n')
        self.fine("queues", "--timeout=0.1", f"--config={path}", CREW_BROKER="")
        self.fine("queues", "--timeout=0.1", f"-H{host}", f"-P{port}", CREW_BROKER="")
        self.fine(
            f"--broker={self.url}", "queues", "--timeout=0.1", CREW_BROKER=nowhere, CREW_THREADS="wrong"
        )

    def test_an_interrupt_ends_it_with_130(self) -> None:
        """The call is withdrawn; nothing is printed."""
        worker = self.worker()
        waiting = self.start("call", f"{self.name}.sleep", "30")
        worker.wait_for("it sleeps")
        waiting.signal(signal.SIGINT)
        self.assertEqual((130, "", ""), (waiting.ended(), waiting.out, waiting.err))


class EventTests(CrewTestCase):
    """Publishing, and printing what is published."""

    def subscribed(self, *arguments: str) -> Any:
        program = self.start("subscribe", *arguments, "-v")
        program.wait_for("subscribed to")
        return program

    def test_every_subscriber_prints_every_event(self) -> None:
        """As text or as lines of JSON; until so many came, or an interrupt, which is a good end."""
        worker = self.worker()
        people = self.subscribed(f"{self.name}.#")
        program = self.subscribed(f"{self.name}.told", "--json", "--count=2")
        self.fine(
            "publish",
            f"{self.name}.told",
            '{"a": "\u001b[2J\u202e"}'.replace("\u001b", "\\u001b"),
            "--header=b=c",
        )
        self.fine("send", f"{self.name}.tell", "2")
        self.assertEqual(0, program.ended())
        first, second = map(json.loads, program.out.splitlines())
        self.assertEqual(({"a": "\u001b[2J\u202e"}, {"b": "c"}), (first["data"], first["headers"]))
        self.assertEqual((f"{self.name}.told", 2), (second["channel"], second["data"]))
        people.wait_for(rf"{self.name}.told 2")
        people.signal(signal.SIGINT)
        self.assertEqual(0, people.ended())
        shown = '{"a": "\\u001b[2J\\u202e"}'
        self.assertEqual(f"{self.name}.told {shown}\n{self.name}.told 2\n", people.out)
        self.assertNotIn("failed", worker.out)

    def test_a_reader_that_has_had_enough_is_no_error(self) -> None:
        """As of ``crew subscribe ... | head -1``."""
        words = command("subscribe", self.name, "-v")
        process = subprocess.Popen(
            words,
            env=clean_environment(CREW_BROKER=self.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        assert process.stdout is not None and process.stderr is not None
        self.addCleanup(process.stderr.close)
        while "subscribed to" not in process.stderr.readline():
            pass
        process.stdout.close()
        self.fine("publish", self.name, "1")
        self.assertEqual(0, process.wait(60))
        self.assertNotIn("Traceback", process.stderr.read())


class TerminalTests(CrewTestCase):
    """What people see."""

    def terminal(self, *arguments: str) -> Terminal:
        terminal = Terminal(list(arguments), self.folder, self.url)
        self.addCleanup(terminal.close)
        return terminal

    def test_top_draws_anew_until_interrupted(self) -> None:
        """In its place, with what runs."""
        self.worker()
        sleeping = self.start("call", f"{self.name}.sleep", "30")
        top = self.terminal("top", "--interval=0.3")
        top.wait_for(f"{self.name}.sleep", 2)
        top.wait_for("calls/s", 3)
        top.interrupt()
        self.assertEqual(0, top.ended())
        sleeping.signal(signal.SIGINT)
        self.assertEqual(130, sleeping.ended())

    def test_what_comes_from_elsewhere_is_escaped_and_cut(self) -> None:
        """So that a terminal obeys nobody's words."""
        self.worker()
        long = self.write("long", json.dumps(f"\u009b2J{'x' * 200_000}"))
        shown = self.terminal("call", f"{self.name}.echo", f"@{long}")
        self.assertEqual(0, shown.ended())
        self.assertTrue(shown.text.startswith('"\\u009b2Jxxx'), shown.text[:50])
        self.assertIn("characters ...xxx", shown.text)
        self.assertLess(len(shown.text), 70_000)

    def test_tables_are_plain_where_rich_is_not_there(self) -> None:
        """And have the same words."""
        worker = self.worker()
        ping = ("ping", self.name, "--expect=1", "--timeout=10")
        drawn = self.terminal(*ping)
        self.assertEqual(0, drawn.ended(), drawn.text)
        self.write("rich.py", "raise ImportError('not here')")
        plain = self.terminal(*ping)
        self.assertEqual(0, plain.ended(), plain.text)
        for text in (drawn.text, plain.text):
            self.assertIn(str(worker.process.pid), text)
        self.assertIn("\u2500", drawn.text)
        self.assertTrue(plain.text.startswith("WID "), plain.text)
        self.assertTrue(plain.text.isascii())
