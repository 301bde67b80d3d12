"""
The pages of ``docs/`` say what is so: their programs and commands run, and what they name is there.

A page is read from top to bottom, as its reader would: its programs are written
into a folder, its commands are run there, and what they print is compared with
what stands below them. Each page has a broker of its own, an embedded one; or
they have the RabbitMQ that ``CREW_TEST_BROKER`` names.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Coroutine, Iterator
from contextlib import redirect_stderr
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any, get_args
from urllib.request import urlopen

from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.plugin import getPlugins
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import crew_tx
from crew_tx import errors
from crew_tx.blocking import Client as BlockingClient
from crew_tx.broker import BrokerService
from crew_tx.cli.crew.parser import make_parser
from crew_tx.cli.gateway_settings import GATEWAY_OPTIONS
from crew_tx.cli.settings import SETTINGS
from crew_tx.client import Client
from crew_tx.control import BuiltinCommands, command
from crew_tx.message import ErrorKind
from crew_tx.pubsub import Subscription
from crew_tx.tasks.context import Context, Request
from crew_tx.testing.rabbitmq import BROKER_VARIABLE
from crew_tx.topology import EXCHANGES
from crew_tx.worker import Service, Task
from tests.integration.support import PATIENCE, ROOT, BrokerTestCase, Program
from tests.programs_in_text import Command, Page, matches, page_of
from tests.programs_in_text import Program as Source

DOCS = ROOT / "docs"
#: Pages about test suites: their snippets are parts of those, and no programs.
ABOUT_TESTS = {"testing.md", "rabbitmq-fixtures.md"}

LANGUAGES = {"python", "console", "sh", "text", "toml", "{toctree}"}
TWISTD = "from twisted.scripts.twistd import run; run()"
#: What programs that aren't ours are called, and their options.
FOREIGN_COMMANDS = {"curl", "eval", "pip", "python", "rabbitmqctl", "systemctl"}
FOREIGN_OPTIONS = {"--pidfile", "--python", "--data", "--concurrency", "--loglevel", "--help", "--now"}

ERROR = re.compile(r"\b([A-Z]\w+(?:Error|Limit))\b")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
PLACE = re.compile(r"^(?:benchmarks|crew_tx|docs|etc|scripts|services)/[\w./@-]*$")
KEYWORD = re.compile(r"(?<![\w-])([a-z_]+)=")
VARIABLE = re.compile(r"\bCREW_[A-Z_]+\b")
MEMBER = re.compile(r"\bcontext\.((?:request\.)?\w+)")
TASK = re.compile(r"""(?:Task|Service)\(["']([^"']+)["']""")
BOTH = 'Test result: Wake up Neo.\n\nStat result: I\'m worker "worker-...". And I serve ... tasks'
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")
ROW = re.compile(r"^\| (.*) \|$", re.MULTILINE)


def pages() -> dict[str, Page]:
    """All pages by their names."""
    if not DOCS.is_dir():
        raise SkipTest("the tests do not run from the repository")
    return {str(path.relative_to(DOCS)): page_of(path.read_text()) for path in sorted(DOCS.rglob("*.md"))}


def own_pages() -> dict[str, Page]:
    """Those that are checked here."""
    return {name: page for name, page in pages().items() if name not in ABOUT_TESTS}


def rows(page: Page) -> list[list[str]]:
    """The rows of a page's tables, as their cells."""
    return [re.split(r" *\| *", row) for row in ROW.findall(page.text)]


def found(pattern: re.Pattern[str], *, moving: bool = True) -> Iterator[tuple[str, str]]:
    """
    Where something stands between backquotes, or in a command: the page, and what it is.

    :param moving: whether to look at pages about other programs, too.
    """
    for name, page in own_pages().items():
        if moving or not name.startswith("moving/"):
            for text in (*page.spans, *page.command_lines):
                yield from ((name, each) for each in pattern.findall(text))


class NamesTests(SynchronousTestCase):
    """What the pages speak of."""

    def unknown(self, pattern: re.Pattern[str], known: set[str], *, moving: bool = True) -> None:
        """Fail for what is not known, and where nothing is found at all."""
        all_found = list(found(pattern, moving=moving))
        self.assertTrue(all_found)
        self.assertEqual([], [(page, name) for page, name in all_found if name not in known])

    def test_every_piece_of_python_is_a_named_program(self) -> None:
        """So none escapes the tests below."""
        for name, page in own_pages().items():
            nameless = [f.text for f in page.fences if f.language == "python" and f.name is None]
            self.assertEqual([], nameless, name)
            self.assertLessEqual(
                {f.language for f in page.fences}, {"python", "console", "sh", "text", "{toctree}", "toml"}
            )

    def test_every_error_is_there(self) -> None:
        """In crew_tx.errors, or built in, or Twisted's one."""
        self.unknown(ERROR, {*vars(errors), "CancelledError", "KeyError", "ValueError", "TimeoutError"})

    def test_every_option_is_there(self) -> None:
        """A worker's, a gateway's, or one of crew."""
        options = {f"--{name}" for name in (*SETTINGS, *(each.name for each in GATEWAY_OPTIONS))} | set(
            _options()
        )
        self.unknown(OPTION, options | FOREIGN_OPTIONS)

    def test_every_argument_is_there(self) -> None:
        """Of a client's methods, of what declares tasks and commands, or of an error."""
        kinds = (Client, BlockingClient, Subscription)
        methods = [getattr(kind, name) for kind in kinds for name in vars(kind)]
        functions = [*filter(callable, methods), Client, Task, Service, command]
        known = {name for function in functions for name in signature(function).parameters}
        of_errors = {"reason", "maybe_sent"}
        of_urls = {"cacertfile", "certfile", "keyfile", "auth_mechanism"}
        self.unknown(KEYWORD, known | of_errors | of_urls | {"charset", "interface", "pidfile"}, moving=False)

    def test_every_part_of_the_context_is_there(self) -> None:
        """The request's, too."""
        known = {*vars(Context), *(f"request.{name}" for name in dir(Request)), "settings", "pubsub"}
        self.unknown(MEMBER, known)

    def test_every_variable_is_there(self) -> None:
        """Of the environment."""
        self.unknown(VARIABLE, {setting.variable for setting in (*SETTINGS.values(), *GATEWAY_OPTIONS)})

    def test_every_file_is_there(self) -> None:
        """Under the path that is given."""
        places = list(found(PLACE))
        self.assertTrue(places)
        self.assertEqual([], [(page, place) for page, place in places if not (ROOT / place).exists()])

    def test_every_command_is_there(self) -> None:
        """As a verb of crew with its options, or as a plugin of twistd."""
        for name, page in own_pages().items():
            for line in page.command_lines:
                self.check_command(line, f"{name}: {line}")

    def test_every_verb_is_there(self) -> None:
        """Where only it is named."""
        verbs = _verbs()
        named = list(found(re.compile(r"^crew ([a-z]+)")))
        self.assertTrue(named)
        self.assertEqual([], [(page, verb) for page, verb in named if verb not in verbs])

    def check_command(self, line: str, where: str) -> None:
        """Fail unless a command can be read by what it is for."""
        words = shlex.split(re.sub(r" (?:>.*|&)$", "", line))
        if words[0] == "crew":
            with redirect_stderr(StringIO()) as told:
                try:
                    make_parser().parse_args(words[1:])
                except SystemExit:
                    self.fail(f"{where}\n{told.getvalue()}")
        elif words[0] == "twistd":
            plugins = {plugin.tapname for plugin in getPlugins(IServiceMaker)}
            self.assertTrue(plugins & set(words), where)
        else:
            self.assertIn(words[0], FOREIGN_COMMANDS, where)


class TablesTests(SynchronousTestCase):
    """The tables that say all of something."""

    def test_the_outcomes_have_every_error_of_a_call(self) -> None:
        """All that the door hands out."""
        handed_out = {name for name in crew_tx.__all__ if name.endswith("Error")}
        text = own_pages()["outcomes.md"].text
        self.assertEqual(set(), handed_out - set(ERROR.findall(text)))

    def test_the_verbs_of_control_have_their_rights(self) -> None:
        """As the workers know them."""
        rights = {
            row[0].strip("`").removeprefix("crew "): row[-1]
            for row in rows(own_pages()["control.md"])
            if len(row) == 4 and row[0].startswith("`crew ")
        }
        self.assertEqual({each.name: each.right for each in BuiltinCommands(None).all()}, rights)

    def test_the_wire_has_every_exchange(self) -> None:
        """With its type."""
        told = [row for row in rows(own_pages()["wire.md"]) if row[0].startswith("`crew.") and len(row) == 3]
        kinds = {row[0].strip("`"): row[1].partition(",")[0] for row in told}
        self.assertEqual({exchange.name: exchange.type for exchange in EXCHANGES}, kinds)

    def test_the_wire_has_every_kind_of_error(self) -> None:
        """That a reply may have."""
        text = own_pages()["wire.md"].text
        self.assertEqual([], [kind for kind in get_args(ErrorKind) if f"`{kind}`" not in text])


class PageTestCase(BrokerTestCase):
    """A test with a page, and a broker for its programs."""

    timeout = 120

    def setUp(self) -> Any:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.page = Page("")
        self.hosted = False
        self.done: set[str] = set()
        if BROKER_VARIABLE in os.environ:
            return super().setUp()
        broker = BrokerService(reactor, TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        self.addCleanup(broker.stopService)
        return broker.listen().addCallback(self.embedded)

    def embedded(self, port: Any) -> None:
        """It listens."""
        self.url = f"amqp://guest:guest@127.0.0.1:{port.getHost().port}/%2F"

    def open(self, name: str) -> None:
        """Write a page's programs into the folder."""
        self.page = own_pages()[name]
        self.page.write(self.folder)
        if BROKER_VARIABLE in os.environ:
            for queue in TASK.findall(self.page.text):
                self.delete_later(f"crew.tasks.{queue}")

    def start(self, *words: str) -> Program:
        """Start a Python program with the page's broker, in its folder as far as words name files there."""
        arguments = [str(self.folder / word) if (self.folder / word).is_file() else word for word in words]
        return self.process(*arguments, environment={"CREW_BROKER": self.url})

    async def run_program(self, *words: str) -> str:
        """What a program prints until it ends well."""
        program = self.start(*words)
        self.assertEqual(0, await program.ends(), f"{words}\n{program.output}")
        return program.output

    async def host(self, *words: str) -> None:
        """Start a worker, once; it ends in order after the test."""
        modules = [program.name for program in self.page.programs if program.is_of_tasks]
        if self.hosted or not modules:
            return
        self.hosted = True
        self.done.update(modules)
        worker = self.start(*(words or ("-c", TWISTD, "-n", "--pidfile=", "crew-worker", *modules)))
        self.addCleanup(self.stop, worker)
        await worker.says(" answers ")

    async def stop(self, program: Program) -> None:
        program.signal("TERM")
        self.assertEqual(0, await program.ends(), program.output)

    async def serve(self, name: str) -> str:
        """Start the page's server on a free port. :returns: its address."""
        server = self.start(name, "0")
        await server.says("\n")
        address = ADDRESS.search(server.output)
        assert address is not None, server.output
        return address[0]


def get(url: str, data: str | None = None) -> Any:
    """A Deferred of what a server answers; it posts where there is data."""
    return deferToThread(_get, url, data)


def _get(url: str, data: str | None) -> str:
    with urlopen(url, None if data is None else data.encode(), timeout=PATIENCE) as response:
        text: str = response.read().decode()
    return text


class PagesTests(PageTestCase):
    """Each page from its top to its bottom: its tests are made below."""

    async def read(self, name: str) -> None:
        """Do what a page says."""
        self.open(name)
        for step in self.page.steps:
            if isinstance(step, Command):
                await self.do(step)
            else:
                await self.meet(step)
        self.assertEqual({program.name for program in self.page.programs}, self.done)

    async def meet(self, program: Source) -> None:
        """Run a program, unless a command does so, or a test of its own."""
        if program.is_of_tasks or f"python {program.name}" in self.page.prompted:
            return
        self.done.add(program.name)
        if program.is_server or program.is_application or program.is_imported(self.page.programs):
            return
        await self.host()
        self.compare(program.output, await self.run_program(program.name), program.name)

    async def do(self, step: Command) -> None:
        """Run a command."""
        program, *words = shlex.split(step.line)
        if program == "twistd" and "crew-worker" in words:
            await self.host("-c", TWISTD, *words)
        elif program == "python" and self.is_of_tasks(words[0]):
            await self.host(*words)
        elif program == "python":
            self.done.add(words[0])
            self.compare(step.output, await self.run_program(*words), step.line)
        elif program == "crew":
            await self.host()
            self.compare(
                step.output,
                await self.run_program("-m", "crew_tx.cli.crew", *words, *hurry(words)),
                step.line,
            )

    def is_of_tasks(self, name: str) -> bool:
        return any(program.is_of_tasks for program in self.page.programs if program.name == name)

    def compare(self, expected: str | None, output: str, what: str) -> None:
        """Fail unless a program printed what the page says, if it says so."""
        if expected:
            self.assertTrue(matches(expected, output), f"{what} printed:\n{output}\nin place of:\n{expected}")


def hurry(words: list[str]) -> list[str]:
    """What lets a command wait for the one worker that there is, and for no others."""
    if words[:2] == ["call", "mgt"]:
        return ["--timeout=3"]
    if "--expect" in _verb_parsers()[words[0]]._option_string_actions:
        return ["--expect=1", "--timeout=30"]
    return []


def _reading(name: str) -> Callable[[PagesTests], Coroutine[Any, Any, None]]:
    async def test(self: PagesTests) -> None:
        await self.read(name)

    test.__doc__ = f"docs/{name}."
    return test


for _path in sorted(DOCS.rglob("*.md")):
    _name = str(_path.relative_to(DOCS))
    if _name not in ABOUT_TESTS and page_of(_path.read_text()).steps:
        setattr(PagesTests, f"test_{re.sub('[^a-z]', '_', _name.removesuffix('.md'))}", _reading(_name))


class ServersTests(PageTestCase):
    """The programs that go on until they are stopped."""

    def test_each_has_a_test_here(self) -> None:
        """So none is passed over."""
        servers = [
            (name, program.name)
            for name, page in own_pages().items()
            for program in page.programs
            if program.is_server or program.is_application
        ]
        tested = [
            ("first-use.md", "greeter.py"),
            ("moving/crew.md", "master.py"),
            ("moving/tornado-celery.md", "web.py"),
        ]
        self.assertEqual(tested, servers)

    async def test_the_long_poll(self) -> None:
        """It is answered by what is published: by a task, and directly."""
        self.open("moving/crew.md")
        await self.host()
        address = await self.serve("master.py")
        for path, said in (("publish", "None"), ("publish2", "published")):
            heard = None
            # What was published before may come late.
            while heard != f"by {path}":
                poll = get(f"{address}subscribe")
                while not poll.called:
                    # The first ones may come before the poll does.
                    self.assertEqual(said, await get(f"{address}{path}", f"by {path}"))
                heard = await poll

    async def test_the_pages_of_crews_article(self) -> None:
        """A call, parallel calls, and a task that hangs."""
        self.open("moving/crew.md")
        await self.host()
        address = await self.serve("master.py")
        hanging = get(f"{address}fast")
        self.assertEqual("str: Wake up Neo.\n", await get(address))
        self.assertIn("And I serve 2 tasks", await get(f"{address}stat"))
        both = await get(f"{address}both")
        self.assertTrue(matches(BOTH, both), both)
        self.assertEqual("Timeout", await hanging)

    async def test_the_handler_of_tornado_and_celery(self) -> None:
        """It answers with the task's value, or says what is wrong; the other one needs no task."""
        self.open("moving/tornado-celery.md")
        await self.host()
        address = await self.serve("web.py")
        self.assertEqual("Trinity, Neo", await get(f"{address}users/1"))
        self.assertEqual("i want you, right now!", await get(f"{address}i_want_you_now"))

    async def test_the_application(self) -> None:
        """It calls the task."""
        self.open("first-use.md")
        await self.host()
        application = self.start("-c", TWISTD, "-n", "--pidfile=", "--python", "greeter.py")
        await application.says("Hello, Tank.")


def _options() -> Iterator[str]:
    """The options of all verbs of crew."""
    for parser in _parsers(make_parser()):
        yield from parser._option_string_actions


def _verbs() -> set[str]:
    """The verbs of crew."""
    return set(_verb_parsers())


def _verb_parsers() -> dict[str, Any]:
    return next(_choices(make_parser()))


def _parsers(parser: Any) -> Iterator[Any]:
    yield parser
    for choices in _choices(parser):
        for each in choices.values():
            yield from _parsers(each)


def _choices(parser: Any) -> Iterator[dict[str, Any]]:
    return (action.choices for action in parser._actions if isinstance(action.choices, dict))
