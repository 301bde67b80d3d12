"""README.md says what is so: its programs run, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import crew_tx
from crew_tx import errors
from crew_tx.cli.gateway_settings import GATEWAY_OPTIONS
from crew_tx.cli.settings import BROKER_OPTIONS, OPTIONS, Setting
from tests.integration.support import BrokerTestCase
from tests.programs_in_text import page_of

ROOT = Path(__file__).resolve().parent.parent

ERROR = re.compile(r"`([A-Z]\w+Error)`")
OPTION = re.compile(r"--([a-z][a-z-]*)")
PLACE = re.compile(r"`((?:docs|services|crew_tx)/[\w/.]*|[A-Z]+\.md)`|\]\((docs/[^)]+)\)")
#: The options of each program, by the section that has their table.
TABLES = {
    "The worker's options": OPTIONS,
    "The embedded broker": BROKER_OPTIONS,
    "The web gateway": GATEWAY_OPTIONS,
}
MIB = 1024 * 1024


def read_readme() -> str:
    """Its text."""
    path = ROOT / "README.md"
    if not path.exists():
        raise SkipTest("the tests do not run from the repository")
    return path.read_text()


def section(title: str) -> str:
    """The text of one section."""
    return read_readme().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def shown_default(option: Setting) -> str:
    """A setting's default as the tables have it."""
    if option.name == "vhost":
        return "/"
    if option.name == "memory-limit":
        return f"{option.default // MIB}MiB"  # type: ignore[operator]
    return f"{option.default:g}" if isinstance(option.default, float) else str(option.default)


def programs() -> dict[str, str]:
    """Its Python programs by the file names that they begin with."""
    return {program.name: program.source for program in page_of(read_readme()).programs}


class NamesTests(SynchronousTestCase):
    """What the README speaks of."""

    def test_every_piece_of_python_is_a_named_program(self) -> None:
        """So none escapes the tests below."""
        self.assertEqual(["worker.py", "client.py", "tasks.py", "calls.py"], list(programs()))
        self.assertEqual(len(programs()), len(page_of(read_readme()).fences))

    def test_worker_and_client_have_twenty_lines(self) -> None:
        """Both together, blank lines included."""
        lines = [line for name in ("worker.py", "client.py") for line in programs()[name].splitlines()]
        self.assertLessEqual(len(lines), 20)

    def test_every_error_is_there(self) -> None:
        """In crew_tx.errors, or built in, or Twisted's one."""
        named = set(ERROR.findall(read_readme()))
        self.assertLess(15, len(named))
        known = {*vars(errors), "CancelledError", "ValueError", "TimeoutError"}
        self.assertEqual(set(), named - known)

    def test_every_error_of_a_call_is_in_the_table(self) -> None:
        """All that the door hands out."""
        handed_out = {name for name in crew_tx.__all__ if name.endswith("Error")}
        table = section("What a call comes to")
        self.assertEqual(set(), handed_out - set(ERROR.findall(table)))

    def test_the_options_are_those_of_the_programs(self) -> None:
        """All of them, and no other."""
        for title, options in TABLES.items():
            table = "".join(line for line in section(title).splitlines() if line.startswith("|"))
            self.assertEqual({option.name for option in options}, set(OPTION.findall(table)), title)

    def test_the_defaults_are_those_of_the_programs(self) -> None:
        """Where an option has one that is not made of others."""
        for title, options in TABLES.items():
            rows = [line for line in section(title).splitlines() if line.startswith("| `-")]
            defaults = {OPTION.findall(row)[0]: row.split("|")[3].strip(" `") for row in rows}
            for option in options:
                if option.default and option.name in defaults:
                    self.assertIn(shown_default(option), defaults[option.name])

    def test_the_worst_of_the_embedded_broker_is_said(self) -> None:
        """What it is for, and that production runs on RabbitMQ."""
        text = " ".join(section("The embedded broker").split())
        for words in (
            "for development, tests and demonstrations",
            "loses it at its end",
            "runs on RabbitMQ.",
        ):
            self.assertIn(words, text)

    def test_every_file_is_there(self) -> None:
        """Under the path that is given."""
        places = [named or linked for named, linked in PLACE.findall(read_readme())]
        self.assertLess(15, len(places))
        self.assertEqual([], [place for place in places if not (ROOT / place).exists()])

    def test_both_commands_are_there(self) -> None:
        """As files that can be run."""
        for name in re.findall(r"scripts/\w+", read_readme()):
            self.assertTrue((ROOT / name).stat().st_mode & 0o111, name)


class ProgramsTests(BrokerTestCase):
    """The programs as they stand, as processes, on a broker."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name, source in programs().items():
            (self.folder / name).write_text(source)
        for task_id in ("test", "example", "later"):
            self.delete_later(f"crew.tasks.{task_id}")
        self.environment = {"CREW_BROKER": self.url}

    async def start_worker(self, *arguments: str) -> None:
        """Start a worker; it is ended, in order, after the test."""
        worker = self.process(*arguments, environment=self.environment)

        async def stop() -> None:
            worker.signal("TERM")
            self.assertEqual(0, await worker.ends(), worker.output)

        self.addCleanup(stop)
        await worker.says(" answers ")

    async def run_program(self, name: str) -> str:
        """What a program prints until it ends well."""
        program = self.process(self.folder / name, environment=self.environment)
        self.assertEqual(0, await program.ends(), program.output)
        return program.output

    async def test_the_worker_answers_the_client(self) -> None:
        """The worker by the command that stands below it."""
        await self.start_worker(str(self.folder / "worker.py"), "--logging=info")
        self.assertEqual("Wake up Neo.\n\n", await self.run_program("client.py"))

    async def test_the_calls_come_out_as_their_comments_say(self) -> None:
        """With the worker of both modules, under twistd."""
        twistd = "from twisted.scripts.twistd import run; run()"
        modules = [str(self.folder / name) for name in ("worker.py", "tasks.py")]
        await self.start_worker("-c", twistd, "-n", "--pidfile=", "crew-worker", *modules)
        lines = (await self.run_program("calls.py")).splitlines()
        self.assertEqual("{'res': 12}", lines[0])
        self.assertRegex(lines[1], r"^\{'res': 12\} in [\d.e-]+ s$")
        self.assertEqual(["Wake up Neo.", " True", "it ran for too long"], lines[2:])
