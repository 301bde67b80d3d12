"""What a wheel and a source archive carry."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from email.message import Message
from email.parser import Parser
from functools import cache
from pathlib import Path
from shutil import copy, copytree, ignore_patterns, rmtree
from tempfile import mkdtemp
from zipfile import ZipFile

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import crew_tx
from crew_tx._version import __version__

ROOT = Path(__file__).resolve().parent.parent

# By the build backend itself: a build of pip's own would fetch setuptools anew.
BUILD = "from setuptools import build_meta as b; b.build_wheel({out!r}); b.build_sdist({out!r})"


@cache
def built() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files of a wheel and of a source archive, by name."""
    if not (ROOT / "setup.py").exists():
        raise SkipTest("the tests do not run from the repository")
    folder = Path(mkdtemp(prefix="crew-packaging-"))
    try:
        return _build(_copied(folder / "source"), folder)
    finally:
        rmtree(folder)


def _copied(source: Path) -> Path:
    """What is built from; a build leaves folders behind."""
    source.mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            copy(path, source)
    for name in ("crew_tx", "twisted", "tests"):
        copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__", "dropin.cache"))
    return source


def _build(source: Path, out: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    done = subprocess.run(
        [sys.executable, "-c", BUILD.format(out=str(out))],
        cwd=source,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return _unzipped(wheel), _untarred(archive)


def _unzipped(path: Path) -> dict[str, bytes]:
    with ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def _untarred(path: Path) -> dict[str, bytes]:
    """Without the folder that it is all in."""
    with tarfile.open(path) as archive:
        files = ((member.name, archive.extractfile(member)) for member in archive)
        return {name.partition("/")[2]: file.read() for name, file in files if file is not None}


def metadata(wheel: dict[str, bytes]) -> Message:
    """A wheel's METADATA."""
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel[name].decode())


class WheelTests(SynchronousTestCase):
    """What is installed."""

    def setUp(self) -> None:
        self.files, _ = built()

    def test_of_twisted_only_our_plugin_file_is_in_it(self) -> None:
        """An __init__.py would overwrite Twisted's, and its removal would break Twisted."""
        self.assertEqual(
            ["twisted/plugins/crew_tx_plugins.py"],
            [name for name in self.files if name.startswith("twisted")],
        )

    def test_every_source_file_of_the_package_is_in_it(self) -> None:
        """No room is left out because its folder has no __init__.py."""
        folder = Path(crew_tx.__file__ or "").parent
        sources = {path.relative_to(folder.parent).as_posix() for path in folder.rglob("*.py")}
        self.assertIn("crew_tx/errors.py", sources)
        self.assertEqual(set(), sources - set(self.files))

    def test_the_spec_and_the_type_marker_are_in_it(self) -> None:
        """They aren't Python, so packaging has to be told of them."""
        self.assertIn("crew_tx/amqp/amqp0-9-1.xml", self.files)
        self.assertIn("crew_tx/py.typed", self.files)

    def test_the_status_page_is_in_it(self) -> None:
        """All of its files, which aren't Python either."""
        folder = Path(crew_tx.__file__ or "").parent / "web" / "page"
        names = {f"crew_tx/web/page/{path.name}" for path in folder.iterdir()}
        self.assertIn("crew_tx/web/page/page.html", names)
        self.assertEqual(set(), names - set(self.files))

    def test_nothing_but_the_package_is_in_it(self) -> None:
        """No tests, no scripts and no services on a user's path."""
        own = ("crew_tx/", "twisted/plugins/", f"crew_tx-{__version__}.dist-info/")
        self.assertEqual([], [name for name in self.files if not name.startswith(own)])

    def test_it_requires_three_packages(self) -> None:
        """All else is an extra."""
        required = metadata(self.files).get_all("Requires-Dist", [])
        plain = [each for each in required if "extra ==" not in each]
        names = sorted(re.split("[<>=!]", each)[0].lower() for each in plain)
        self.assertEqual(["cbor2", "twisted[tls]", "txamqp"], names)

    def test_it_installs_the_command_line(self) -> None:
        """As ``crew``."""
        entries = self.files[f"crew_tx-{__version__}.dist-info/entry_points.txt"].decode()
        self.assertIn("[console_scripts]\ncrew = crew_tx.cli.crew.main:script", entries)

    def test_it_says_its_version_and_python(self) -> None:
        """The version comes from the package."""
        about = metadata(self.files)
        self.assertEqual(__version__, about["Version"])
        self.assertEqual(">=3.11", about["Requires-Python"])


class SourceArchiveTests(SynchronousTestCase):
    """What a wheel can be built from."""

    def test_it_has_all_that_the_wheel_has(self) -> None:
        """Else an install from it would lack files."""
        wheel, archive = built()
        missing = {name for name in wheel if ".dist-info/" not in name} - set(archive)
        self.assertEqual(set(), missing)

    def test_it_has_the_licence(self) -> None:
        """Beside the code."""
        _, archive = built()
        self.assertIn("LICENSE", archive)
        self.assertIn("CHANGELOG.md", archive)
