"""Other versions of RabbitMQ; all but one test with programs that are made up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.testing import _rabbitmq_roots as roots
from crew_tx.testing._rabbitmq_folder import NodeFolder, Ports
from crew_tx.testing.rabbitmq import (
    CACHE_VARIABLE,
    MIRROR_VARIABLE,
    RabbitMQError,
    RabbitMQMissingError,
    RabbitMQNode,
    install_rabbitmq,
    rabbitmq_missing,
    shared_node,
)

REAL = "4.3"

#: Runs what it is given, without mounts of its own.
UNSHARE = 'shift 3; exec "$@"'

#: What it makes has the suite's name as its version; it says who holds the lock meanwhile.
DEBOOTSTRAP = """
suite=$3 root=$4
echo "$@" >>calls
flock --nonblock "$root/../rabbitmq-4.0.lock" true || echo held >>locks
readlink /proc/$$/fd/* | grep -q 'rabbitmq-4.0.lock$' && echo "held by debootstrap" >>locks
mkdir -p "$root/usr/lib/rabbitmq/lib/rabbitmq_server-$VERSION" "$root/etc" "$root/var/cache/apt/archives"
touch "$root/var/cache/apt/archives/rabbitmq-server.deb"
echo "I: Base system installed successfully."
"""

FAILING = """
mkdir -p "$4/half"
echo "I: Retrieving InRelease"
echo "E: no space left"
echo "W: giving up"
exit 1
"""


class RootTestCase(SynchronousTestCase):
    """A cache, a mirror and programs that belong to the test; it passes for root, and has no RabbitMQ."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.cache, self.programs, mirror = (self.folder / name for name in ("cache", "bin", "mirror"))
        for suite in roots.SUITES.values():
            (mirror / "dists" / suite).mkdir(parents=True)
            (mirror / "dists" / suite / "InRelease").touch()
        self.programs.mkdir()
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "VERSION": "4.0.9",
            CACHE_VARIABLE: str(self.cache),
            MIRROR_VARIABLE: mirror.as_uri(),
        }
        self.patch(os, "environ", self.environment)
        self.patch(os, "geteuid", lambda: 0)
        self.patch(roots, "installed_version", lambda: "")
        self.patch(roots, "_PATH", f"{self.programs}:/usr/bin:/bin")
        self.program("unshare", UNSHARE)
        self.program("mount", f'echo mount "$@" >>{self.folder}/started')
        self.program("chroot", f'echo chroot "$@" >>{self.folder}/started')
        self.program("debootstrap", DEBOOTSTRAP)
        self.root = self.cache / "rabbitmq-4.0"

    def program(self, name: str, script: str) -> None:
        """Make up a program."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def lines(self, path: Path) -> list[str]:
        """What a program noted."""
        return path.read_text().splitlines() if path.exists() else []

    def refusal(self) -> str:
        """The one line that says why there is no 4.0."""
        text = str(self.assertRaises(RabbitMQMissingError, roots.programs_of, "4.0"))
        self.assertNotIn("\n", text)
        return text


class CacheFolderTests(RootTestCase):
    """Where roots are kept."""

    def test_the_one_that_is_named(self) -> None:
        """It goes before the user's."""
        self.environment["XDG_CACHE_HOME"] = "/elsewhere"
        self.assertEqual(self.cache, roots.cache_folder())

    def test_in_the_users_cache(self) -> None:
        """As the desktop's rules have it, or in its usual place."""
        del self.environment[CACHE_VARIABLE]
        self.environment |= {"XDG_CACHE_HOME": "/cache", "HOME": "/home/neo"}
        self.assertEqual(Path("/cache/crew_tx"), roots.cache_folder())
        del self.environment["XDG_CACHE_HOME"]
        self.assertEqual(Path("/home/neo/.cache/crew_tx"), roots.cache_folder())


class WhichRootTests(RootTestCase):
    """Which versions need one."""

    def test_the_installed_one_needs_none(self) -> None:
        """By whichever part of its number it is asked for; one that only begins alike is another."""
        self.patch(roots, "installed_version", lambda: "4.0.5")
        for version in (None, "4", "4.0", "4.0.5"):
            self.assertIs(None, roots.root_of(version))
        self.patch(roots, "installed_version", lambda: "4.01.5")
        self.assertEqual(self.root, roots.root_of("4.0"))

    def test_a_version_that_is_nowhere(self) -> None:
        """It is said which there are."""
        error = self.assertRaises(RabbitMQMissingError, roots.root_of, "3.9")
        self.assertIn("3.10, 4.0, 4.3", str(error))
        self.assertEqual(str(error), rabbitmq_missing("3.9"))


class MissingTests(RootTestCase):
    """What is said where a root can't be had."""

    def test_nothing_is_missing(self) -> None:
        """There is no reason then."""
        self.assertEqual("", rabbitmq_missing("4.0"))

    def test_only_root_may(self) -> None:
        """To mount and to chroot."""
        self.patch(os, "geteuid", lambda: 1000)
        self.assertIn("run the tests as root", self.refusal())
        self.assertEqual(self.refusal(), rabbitmq_missing("4.0"))

    def test_debootstrap_is_needed_once(self) -> None:
        """A root that is there does without."""
        (self.programs / "debootstrap").unlink()
        self.assertIn("install the package debootstrap", self.refusal())
        self.root.mkdir(parents=True)
        self.assertEqual("", rabbitmq_missing("4.0"))

    def test_mounts_are_forbidden(self) -> None:
        """So it is in most containers."""
        self.program("unshare", "exit 1")
        self.assertIn("CAP_SYS_ADMIN", self.refusal())

    def test_the_mirror_does_not_answer(self) -> None:
        """debootstrap isn't even tried."""
        self.environment[MIRROR_VARIABLE] = (self.folder / "nowhere").as_uri()
        self.assertIn(f"name another mirror in {MIRROR_VARIABLE}", self.refusal())
        self.assertFalse((self.cache / "calls").exists())


class MakingTests(RootTestCase):
    """A root is made."""

    def test_once_and_whole(self) -> None:
        """With a hosts file, without what was downloaded; the next one to ask finds it."""
        programs = [install_rabbitmq("4.0") for _ in range(2)]
        self.assertEqual([self.root / "usr/lib/rabbitmq/bin"] * 2, programs)
        self.assertEqual("4.0.9", RabbitMQNode(version="4.0").version)
        self.assertTrue((self.root / "etc/hosts").exists())
        self.assertEqual([], list((self.root / "var/cache/apt/archives").iterdir()))
        making, mirror = f"{self.root}.making", self.environment[MIRROR_VARIABLE]
        self.assertEqual(
            [f"--variant=minbase --include=rabbitmq-server trixie {making} {mirror}"],
            self.lines(self.cache / "calls"),
        )

    def test_under_a_lock(self) -> None:
        """debootstrap holds it too, should it outlive us; behind it the lock is free."""
        for name in ("first", "second"):
            install_rabbitmq("4.0")
            self.root.rename(self.folder / name)
        self.assertEqual(["held", "held by debootstrap"] * 2, self.lines(self.cache / "locks"))

    def test_another_process_made_it_meanwhile(self) -> None:
        """Who waited for the lock looks again."""

        @contextmanager
        def locked(path: Path) -> Iterator[int]:
            self.root.mkdir()
            yield 0

        self.patch(roots, "_locked", locked)
        install_rabbitmq("4.0")
        self.assertFalse((self.cache / "calls").exists())

    def test_a_half_made_one_is_not_used(self) -> None:
        """What a failure leaves is not taken for a root, and is gone with the next attempt."""
        self.program("debootstrap", FAILING)
        self.assertIn("E: no space left", self.refusal())
        self.assertFalse(self.root.exists())
        self.assertTrue(self.root.with_name("rabbitmq-4.0.making").exists())
        self.program("debootstrap", DEBOOTSTRAP)
        install_rabbitmq("4.0")
        self.assertFalse((self.root / "half").exists())
        self.assertFalse(self.root.with_name("rabbitmq-4.0.making").exists())

    def test_a_suite_that_has_moved_on(self) -> None:
        """It is said what it has now."""
        self.environment["VERSION"] = "4.4.0"
        self.assertIn("E: trixie has rabbitmq_server-4.4.0", self.refusal())
        self.assertFalse(self.root.exists())

    def test_one_that_takes_too_long(self) -> None:
        """It is ended; nothing that it started lives on."""
        self.patch(roots, "_MAKE_SECONDS", 0.1)
        self.program("debootstrap", 'read -r _ <"$0.never"')
        os.mkfifo(self.programs / "debootstrap.never")
        error = self.assertRaises(RabbitMQError, install_rabbitmq, "4.0")
        self.assertIn("took more than", str(error))
        with roots._locked(self.cache / "rabbitmq-4.0.lock") as lock:
            self.assertGreater(lock, 0)

    def test_debootstrap_is_installed(self) -> None:
        """By who installs, not by who starts a node."""
        installed: list[str] = []

        def install(package: str) -> str:
            installed.append(package)
            self.program(package, DEBOOTSTRAP)
            return ""

        (self.programs / "debootstrap").unlink()
        self.patch(roots, "install_package", install)
        self.assertRaises(RabbitMQMissingError, RabbitMQNode(version="4.0").start)
        self.assertEqual([], installed)
        install_rabbitmq("4.0")
        self.assertEqual(["debootstrap"], installed)


class CommandTests(RootTestCase):
    """A program is started inside of a root."""

    def test_mounts_and_chroot(self) -> None:
        """Its node's folder is where the node's variables say."""
        folder = NodeFolder.make(Ports(1, 2, 3, 4), config="", advanced="[].", plugins=(), root=self.root)
        self.addCleanup(folder.remove)
        self.assertEqual(folder, NodeFolder.open(folder.path))
        self.assertEqual("/mnt/home", folder.environment()["HOME"])
        process = roots.spawn(
            roots.command(folder, "rabbitmqctl", "list_users", "a b"),
            folder=folder.path,
            environment=folder.environment(),
            output=folder.path / "log" / "out",
        )
        process.wait(10)
        roots.end(process)
        expected = [
            f"mount --bind /proc {self.root}/proc",
            f"mount --bind /dev {self.root}/dev",
            f"mount --bind /etc/hosts {self.root}/etc/hosts",
            f"mount --bind {folder.path} {self.root}/mnt",
            f"chroot {self.root} /usr/lib/rabbitmq/bin/rabbitmqctl list_users a b",
        ]
        self.assertEqual(expected, self.lines(self.folder / "started"), folder.log())


class RealRootTests(SynchronousTestCase):
    """A node of another version, for real, where its root has been made before."""

    if reason := rabbitmq_missing(REAL):
        skip = reason
    elif not (roots.root_of(REAL) or Path("/")).is_dir():
        skip = f"RabbitMQ {REAL} was not installed yet: scripts/test --brokers {REAL} does it"

    def test_it_runs_and_leaves_no_mount(self) -> None:
        """The mounts are its own: the machine never sees them."""
        mounts = Path("/proc/self/mounts")
        before = mounts.read_text()
        node = RabbitMQNode(version=REAL)
        self.addCleanup(node.stop)
        node.start()
        self.assertTrue(node.version.startswith(REAL))
        self.patch(os, "environ", {**os.environ, **node.variables})
        self.assertIn(node.version, shared_node().ctl("version"))
        self.assertEqual(before, mounts.read_text())
        node.stop()
        self.assertEqual(before, mounts.read_text())
