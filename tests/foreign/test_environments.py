"""The environments of other people's clients: when they are made, and when one is used again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.foreign.environments import REQUIREMENTS, CannotInstallError, Environment, run


class EnvironmentTests(SynchronousTestCase):
    """One, with a ``run`` that notes commands and makes what they would."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.requirements = folder / "client.txt"
        self.requirements.write_text("client==1.0\n")
        self.ran: list[str] = []
        self.fails = False
        self.environment = Environment(folder / "client-python3.11", self.requirements, self.run_nothing)

    def run_nothing(self, program: str, dash: str, module: str, *arguments: str | Path) -> None:
        self.ran.append(module)
        if module == "venv":
            folder = Path(arguments[-1])
            (folder / "bin").mkdir(parents=True, exist_ok=True)
            (folder / "bin" / "python").touch()
            (folder / "stamp").unlink(missing_ok=True)
        elif self.fails:
            raise CannotInstallError("no network")

    def test_it_is_made_once(self) -> None:
        """The second time, it is there."""
        self.assertFalse(self.environment.is_made)
        self.environment.make()
        self.environment.make()
        self.assertEqual((self.ran, self.environment.is_made), (["venv", "pip"], True))

    def test_other_versions_make_it_anew(self) -> None:
        """Whoever changes the file need not know of the folder."""
        self.environment.make()
        self.requirements.write_text("client==2.0\n")
        self.assertFalse(self.environment.is_made)
        self.environment.make()
        self.assertEqual((self.ran, self.environment.is_made), (["venv", "pip"] * 2, True))

    def test_one_that_could_not_be_installed_is_not_used(self) -> None:
        """It is made again from the start."""
        self.fails = True
        error = self.assertRaises(CannotInstallError, self.environment.make)
        self.assertEqual((str(error), self.environment.is_made), ("no network", False))
        self.fails = False
        self.environment.make()
        self.assertEqual((self.ran, self.environment.is_made), (["venv", "pip"] * 2, True))


class RunTests(SynchronousTestCase):
    """What a command that fails leaves to say."""

    def test_its_last_line(self) -> None:
        """Of either stream."""
        program = "import sys; print('first'); print('last', file=sys.stderr); sys.exit(3)"
        error = self.assertRaises(CannotInstallError, run, sys.executable, "-u", "-c", program)
        self.assertEqual(str(error), "last")

    def test_nothing(self) -> None:
        """Then that."""
        error = self.assertRaises(CannotInstallError, run, sys.executable, "-c", "raise SystemExit(3)")
        self.assertEqual(str(error), "no word why")


class RequirementsTests(SynchronousTestCase):
    def test_every_version_is_exact(self) -> None:
        """What passes here today is the same tomorrow, and all of it is named."""
        files = list(REQUIREMENTS.glob("*.txt"))
        self.assertTrue(files)
        for file in files:
            for line in file.read_text().splitlines():
                self.assertTrue(re.fullmatch(r"[\w.-]+==[\d.]+(post\d+)?", line), f"{file.name}: {line}")
