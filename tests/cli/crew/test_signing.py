"""``crew`` and a worker that is a process, with keys and without."""

from __future__ import annotations

import os
from base64 import b64encode

from tests.cli.crew.support import CrewTestCase


class SigningTests(CrewTestCase):
    """A worker that has ``--signing-keys``."""

    def keys(self, name: str, secret: bytes, mode: int = 0o600) -> str:
        path = self.write(name, f"k = {b64encode(secret).decode()}\n")
        os.chmod(path, mode)
        return path

    def test_it_takes_what_is_signed_alone(self) -> None:
        """By its own key; who has none is told why, and nothing is run."""
        keys = self.keys("signing.keys", b"k" * 32)
        worker = self.worker(f"--signing-keys={keys}")
        echo = ("call", f"{self.name}.echo")
        self.assertEqual('"one"\n', self.fine(*echo, '"one"', f"--signing-keys={keys}").out)
        self.assertEqual('"two"\n', self.fine(*echo, '"two"', CREW_SIGNING_KEYS=keys).out)
        self.wrong(1, "the worker refused it (unsigned)", *echo, '"three"')
        other = self.keys("other.keys", b"o" * 32)
        late = ("--expiration=0.5", "--timeout=0.5")
        self.wrong(1, "(1 tampered)", *echo, '"four"', *late, f"--signing-keys={other}")
        (stats,) = self.fine(
            "stats", self.name, "--expect=1", "--timeout=10", "--json", f"--signing-keys={keys}"
        ).json()
        self.assertEqual(1, stats["refused"]["unsigned"])
        # The call, and its cancel.
        self.assertIn(stats["refused"]["tampered"], (1, 2))
        worker.signal()
        self.assertEqual(0, worker.ended(), worker.out + worker.err)
        self.assertEqual(2, worker.out.count("echo "), worker.out)
        self.assertNotIn("everybody can read", worker.out + worker.err)

    def test_a_file_that_others_can_read_is_complained_of(self) -> None:
        """In the log; it is used all the same."""
        keys = self.keys("signing.keys", b"k" * 32, 0o644)
        worker = self.worker(f"--signing-keys={keys}")
        self.assertIn(f"--signing-keys: everybody can read {keys}; chmod 600 would change that", worker.out)
        self.assertEqual(0, self.crew("call", f"{self.name}.echo", "1", f"--signing-keys={keys}").code)
