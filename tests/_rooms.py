"""
Which file of the package may import which: the rules as data, and the check.

A tree is a dict of source texts by path inside the package, so that the check
can be tried on trees that are made up.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "crew_tx"

#: The files beside the rooms, from the ground up; those of one floor may import one another.
FILES = (
    ("_version", "errors", "interfaces"),
    ("message", "topology", "status", "deadlines", "signing"),
    ("timer",),
    ("reactor_thread",),
    ("client", "worker", "pubsub", "control", "mapreduce", "blocking", "tracing"),
)
WIRE, ENGINES, ROLES, EDGES, PROGRAMS = 2, 3, 4, 5, 6
#: Beside the tower: the embedded broker, which stands on the wire's codec, and what test suites import.
BROKER, TESTING = "broker", "testing"
#: An edge, too, which the CLI makes programs of.
WEB = "web"
#: The package's own __init__, above the roles that it hands out.
DOOR = "the door"
#: The floor of each room.
ROOMS = {
    **{f"floor {number}": number for number in range(len(FILES))},
    "codec": 1,
    "amqp": WIRE,
    "rpc": ENGINES,
    "tasks": ENGINES,
    BROKER: ENGINES,
    WEB: EDGES,
    TESTING: EDGES,
    # Where programs are put together, of whatever there is.
    "cli": PROGRAMS,
    DOOR: PROGRAMS,
}

#: Files of higher floors that decide, and so have no reactor, Deferred or clock either.
PURE = (
    "amqp/frames.py",
    "amqp/methods.py",
    "amqp/properties.py",
    "amqp/table.py",
    "broker/_model.py",
    "broker/_session.py",
    "web/access.py",
    "web/gate.py",
    "web/limits.py",
    "web/problems.py",
)
#: What a file that only decides has no use for.
EFFECTS = ("twisted", "asyncio", "selectors", "socket", "threading", "time")

#: Only one file may import it, whichever that is.
ONE_FILE = ("cbor2", "ctypes", "opentelemetry", "prometheus_client", "rich")
REACTOR = "twisted.internet.reactor"
#: Only this room may import it.
ONE_ROOM = {"txamqp": "amqp", REACTOR: "cli"}
#: What setup.py requires, and what comes with it.
REQUIRED = {
    "cbor2",
    "OpenSSL",
    "opentelemetry",
    "prometheus_client",
    "rich",
    "service_identity",
    "twisted",
    "txamqp",
    "zope",
    "zstandard",
}

#: File, function, and room or module. run() is a program, and programs are put together in the CLI room;
#: a program without a reactor has one made for it.
EXCEPTIONS = {("worker.py", "run", "cli"), ("reactor_thread.py", "import_reactor", REACTOR)}

Tree = Mapping[str, str]


@dataclass(frozen=True)
class Import:
    """
    One name that a file imports.

    :ivar target: the dotted name; of ``from a import b``, it is ``a.b``.
    :ivar function: the function that it is in, if any.
    """

    path: str
    line: int
    target: str
    function: str | None

    def is_of(self, module: str) -> bool:
        """Whether it is of this module, or of one inside it."""
        return f"{self.target}.".startswith(f"{module}.")

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.target}"


def read_tree(folder: Path) -> dict[str, str]:
    """The sources of a package on disk."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))}


def faults(tree: Tree) -> list[str]:
    """What breaks the rules, in words."""
    if homeless := [path for path in tree if room_of(path) not in ROOMS]:
        return [f"{path} is in no room: give it a floor in tests/_rooms.py" for path in homeless]
    imports = [each for path, source in tree.items() for each in imports_of(path, source)]
    return [*climbing(imports), *effects(imports), *foreign(imports), *scattered(imports)]


def climbing(imports: list[Import]) -> Iterator[str]:
    """Imports of a room that the importer's does not stand on."""
    for each in imports:
        if each.is_of(PACKAGE):
            importer, imported = room_of(each.path), imported_room(each.target)
            is_exception = (each.path, each.function, imported) in EXCEPTIONS
            if not may_import(importer, imported) and not is_exception:
                yield f"{each}: {imported} is not below {importer}"


def effects(imports: list[Import]) -> Iterator[str]:
    """Imports of clocks and reactors by files that only decide."""
    for each in imports:
        is_pure = each.path in PURE or ROOMS[room_of(each.path)] < WIRE
        if is_pure and each.target.split(".")[0] in EFFECTS:
            yield f"{each}: this file only decides, it has no reactor, Deferred or clock"


def foreign(imports: list[Import]) -> Iterator[str]:
    """Imports of what is not required, or is for one room only."""
    for each in imports:
        top = each.target.split(".")[0]
        if top not in REQUIRED | {PACKAGE} | sys.stdlib_module_names:
            yield f"{each}: setup.py does not require it"
        for module, room in ONE_ROOM.items():
            is_exception = (each.path, each.function, module) in EXCEPTIONS
            if each.is_of(module) and room_of(each.path) != room and not is_exception:
                yield f"{each}: only {room} may"


def scattered(imports: list[Import]) -> Iterator[str]:
    """Modules with more than one importer, where one is all they may have."""
    for module in ONE_FILE:
        paths = sorted({each.path for each in imports if each.is_of(module)})
        if len(paths) > 1:
            yield f"{module} is imported by {', '.join(paths)}: only one file may"


def may_import(importer: str, imported: str) -> bool:
    """Whether one room may import from another."""
    if importer == imported:
        return True
    if imported == TESTING:
        return False
    if imported == BROKER:
        return importer in (TESTING, "cli")
    if imported == WEB:
        return importer == "cli"
    return ROOMS[imported] < ROOMS[importer]


def room_of(path: str) -> str:
    """The room that a file is in: its folder, or ``floor N`` for those beside the folders."""
    first, _, rest = path.partition("/")
    return first if rest else _room_of_name(first.removesuffix(".py"))


def imported_room(target: str) -> str:
    """The room that an import of ours is from: the door's, where it is a name that the door hands out."""
    name = f"{target}.".split(".")[1]
    room = _room_of_name(name)
    return room if room in ROOMS else DOOR


def _room_of_name(name: str) -> str:
    if name == "__init__":
        return DOOR
    return next((f"floor {number}" for number, names in enumerate(FILES) if name in names), name)


def imports_of(path: str, source: str) -> Iterator[Import]:
    """All that a file imports, at its top and in its functions."""
    yield from _visit(path, ast.parse(source, path), None)


def _visit(path: str, node: ast.AST, function: str | None) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target in _targets(path, child):
            yield Import(path, child.lineno, target, function)  # type: ignore[attr-defined]
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _visit(path, child, child.name if is_function else function)  # type: ignore[attr-defined]


def _targets(path: str, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _base(path, node)
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


def _base(path: str, node: ast.ImportFrom) -> str:
    """The module that ``from`` names; relative ones made absolute."""
    if node.level == 0:
        return node.module or ""
    package = [PACKAGE, *path.split("/")[:-1]]
    parents = package[: len(package) - node.level + 1]
    return ".".join([*parents, node.module] if node.module else parents)
