"""The programs and commands in a text in Markdown, so that tests can run what its readers would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (\S+\.py)\n")
_SPAN = re.compile(r"`([^`\n]+)`")
_PROMPT = "$ "
#: Stands in an expected output for anything.
_ANYTHING = "..."


@dataclass(frozen=True, slots=True)
class Fence:
    """
    A fenced block.

    :ivar language: ``python`` for programs; ``console`` for commands that are run, with what they print;
        ``sh`` for commands that are only read; ``text`` for what the block before it prints.
    """

    language: str
    text: str

    @property
    def name(self) -> str | None:
        """The name of the file that a program begins with."""
        found = _NAME.match(self.text) if self.language == "python" else None
        return found and found[1]


@dataclass(frozen=True, slots=True)
class Command:
    """A command at a prompt, and what stands below it."""

    line: str
    output: str


@dataclass(frozen=True, slots=True)
class Program:
    """
    A program as it stands in a text.

    :ivar output: what it prints, where the text says so.
    """

    name: str
    source: str
    output: str | None = None

    @property
    def is_of_tasks(self) -> bool:
        """Whether it is a module for a worker."""
        return "from crew_tx.worker import" in self.source

    @property
    def is_server(self) -> bool:
        """Whether it goes on until it is stopped."""
        return "await Deferred()" in self.source

    @property
    def is_application(self) -> bool:
        """Whether it is for ``twistd --python``."""
        return "Application(" in self.source

    def is_imported(self, others: list[Program]) -> bool:
        """Whether another program has it as a module."""
        module = re.escape(self.name.removesuffix(".py"))
        importing = re.compile(rf"^(?:from|import) {module}\b", re.MULTILINE)
        return any(importing.search(other.source) for other in others)


@dataclass(frozen=True, slots=True)
class Page:
    """
    A text.

    :ivar steps: its programs and the commands at its prompts, in their order.
    """

    text: str
    fences: list[Fence] = field(default_factory=list)
    steps: list[Program | Command] = field(default_factory=list)

    @property
    def programs(self) -> list[Program]:
        """Its programs."""
        return [step for step in self.steps if isinstance(step, Program)]

    @property
    def prompted(self) -> list[str]:
        """The commands at its prompts."""
        return [step.line for step in self.steps if isinstance(step, Command)]

    @property
    def command_lines(self) -> list[str]:
        """All commands, those that are only read as well."""
        read = [line for fence in self.fences if fence.language == "sh" for line in fence.text.splitlines()]
        return [*self.prompted, *read]

    @property
    def spans(self) -> list[str]:
        """What stands between backquotes, outside of fences."""
        return _SPAN.findall(_FENCE.sub("", self.text))

    def write(self, folder: Path) -> None:
        """Write its programs into a folder."""
        for program in self.programs:
            (folder / program.name).write_text(program.source)


def page_of(text: str) -> Page:
    """Read a text."""
    fences = [Fence(*found) for found in _FENCE.findall(text)]
    return Page(text, fences, list(_steps(text)))


def matches(expected: str, output: str) -> bool:
    """Whether an output is as it stands in the text; spaces at its ends and those of lines don't count."""
    pattern = re.escape(_stripped(expected)).replace(re.escape(_ANYTHING), ".*?")
    return re.fullmatch(pattern, _stripped(output), re.DOTALL) is not None


def _steps(text: str) -> Iterator[Program | Command]:
    for found in _FENCE.finditer(text):
        fence = Fence(*found.groups())
        if fence.name is not None:
            yield Program(fence.name, fence.text.partition("\n")[2], _output_after(text, found.end()))
        elif fence.language == "console":
            yield from _commands(fence.text)


def _output_after(text: str, end: int) -> str | None:
    """Of the next fence, where nothing stands between."""
    following = _FENCE.match(text, end + 2)
    return following[2] if following and following[1] == "text" else None


def _commands(text: str) -> Iterator[Command]:
    for part in f"\n{text}".split(f"\n{_PROMPT}")[1:]:
        line, _, output = part.partition("\n")
        yield Command(line, output)


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
