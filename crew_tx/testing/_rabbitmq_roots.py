"""
Other versions of RabbitMQ than the installed one.

Debian's suites carry several. Each is installed into a root folder of its own,
which a cache folder keeps; its programs are started there by chroot. What is
mounted into the root for that is in a mount namespace that belongs to the
program alone: it is gone with it, however it ends. A root is made under a name
of its own and renamed when it is complete, so one that has its name is whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from crew_tx.testing._rabbitmq_folder import INSIDE, NodeFolder
from crew_tx.testing._rabbitmq_install import (
    PACKAGED,
    RabbitMQError,
    RabbitMQMissingError,
    install_package,
    install_packaged,
    installed_programs,
    installed_version,
    version_in,
)
from crew_tx.testing._rabbitmq_process import end, spawn

#: Names the folder where the roots are kept.
CACHE_VARIABLE = "CREW_TEST_CACHE"
#: Names the mirror of Debian that the roots are made from.
MIRROR_VARIABLE = "CREW_TEST_DEBIAN_MIRROR"

#: The suite that carries a version. The last one moves.
SUITES = {"3.10": "bookworm", "4.0": "trixie", "4.3": "sid"}

_MIRROR = "http://deb.debian.org/debian"
_MIRROR_SECONDS = 15.0
_MAKE_SECONDS = 900.0

#: Where mount, chroot and debootstrap are, which some users' PATH lacks.
_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

_OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")

_RUN_INSIDE = f"""
set -e
root=$1 folder=$2
shift 2
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind /etc/hosts "$root/etc/hosts"
mount --bind "$folder" "$root{INSIDE}"
exec chroot "$root" "$@"
"""

# A node hangs in its first stage where it can't look its name up, for which
# there must be a hosts file for the machine's to be mounted on.
_MAKE = """
set -e
root=$1 version=$2 suite=$3 mirror=$4
rm -rf "$root.making"
debootstrap --variant=minbase --include=rabbitmq-server "$suite" "$root.making" "$mirror"
rm -f "$root.making"/var/cache/apt/archives/*.deb
touch "$root.making/etc/hosts"
cd "$root.making/usr/lib/rabbitmq/lib"
if ! [ -e "rabbitmq_server-$version".* ]; then
    echo "E: $suite has" *
    exit 1
fi
mv "$root.making" "$root"
"""


def cache_folder() -> Path:
    """Where roots are kept: what ``CREW_TEST_CACHE`` names, or ``crew_tx`` in the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).absolute()
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user).absolute() / "crew_tx"


def root_of(version: str | None) -> Path | None:
    """
    Where the root of a version is, or is to be; None if the machine's own RabbitMQ serves.

    :raises RabbitMQMissingError: if no suite of Debian has that version.
    """
    if version is None or f"{installed_version()}.".startswith(f"{version}."):
        return None
    if version not in SUITES:
        raise RabbitMQMissingError(f"RabbitMQ {version} can't be had: there are {', '.join(SUITES)}")
    return cache_folder() / f"rabbitmq-{version}"


def rabbitmq_missing(version: str | None = None) -> str:
    """
    Why a node of a version can't be started here: one line that says what to do.

    Whether a version that was never used can be downloaded isn't looked into.

    :returns: the reason; empty if there is none.
    """
    try:
        root = root_of(version)
        if root is None:
            installed_programs()
        else:
            _check_means(version, root)
    except RabbitMQMissingError as error:
        return str(error)
    return ""


def install_rabbitmq(version: str | None = None) -> Path:
    """
    Install RabbitMQ where it is missing: on Debian and its kin, as root or
    through a sudo that asks nothing. No service is started.

    :param version: one other than the machine's own: ``"3.10"``, ``"4.0"`` or
        ``"4.3"``. It is kept in the cache folder, which takes a minute once,
        and needs root itself.
    :returns: the folder of its programs.
    :raises RabbitMQMissingError: if it can't be done; the text says what to install.
    """
    root = root_of(version)
    if root is None:
        return install_packaged()
    if not root.is_dir() and os.geteuid() == 0 and not _which("debootstrap"):
        install_package("debootstrap")
    return programs_of(version)


def programs_of(version: str | None) -> Path:
    """
    The folder of a version's programs. A root that is missing is made.

    :raises RabbitMQMissingError: if there is none, and none can be made.
    """
    root = root_of(version)
    if root is None:
        return installed_programs()
    _check_means(version, root)
    if not root.is_dir():
        _make(root, str(version))
    return root / PACKAGED.relative_to("/")


def version_of(version: str | None) -> str:
    """The full version that a node of a version has, such as ``4.0.5``; empty if it can't be told."""
    root = root_of(version)
    return installed_version() if root is None else version_in(root)


def command(folder: NodeFolder, program: str, *args: str) -> list[str]:
    """
    How a program is started for a node: one of RabbitMQ's, or epmd.

    :raises RabbitMQMissingError: if it is not installed.
    """
    if folder.root is None:
        return [program if program == "epmd" else str(installed_programs() / program), *args]
    inside = "/usr/bin/epmd" if program == "epmd" else str(PACKAGED / program)
    started = ["env", f"PATH={_PATH}", *_OWN_MOUNTS, "sh", "-c", _RUN_INSIDE, "sh"]
    return [*started, str(folder.root), str(folder.path), inside, *args]


def _check_means(version: str | None, root: Path) -> None:
    """:raises RabbitMQMissingError: if what it takes to make or use a root is not there."""
    wanted = f"RabbitMQ {version} runs in a root folder of its own, and that needs"
    if os.geteuid() != 0:
        raise RabbitMQMissingError(f"{wanted} root: run the tests as root")
    if not root.is_dir() and not _which("debootstrap"):
        raise RabbitMQMissingError(f"{wanted} debootstrap: install the package debootstrap")
    if not all(map(_which, ("unshare", "mount", "chroot"))):
        raise RabbitMQMissingError(f"{wanted} unshare, mount and chroot: install util-linux and coreutils")
    if subprocess.run([*_OWN_MOUNTS, "true"], env=_environment(), stderr=subprocess.DEVNULL).returncode:
        raise RabbitMQMissingError(f"{wanted} mounts, which this container forbids: give it CAP_SYS_ADMIN")


def _make(root: Path, version: str) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    with _locked(root.with_name(f"{root.name}.lock")) as lock:
        # Another process may have made it while we waited.
        if not root.is_dir():
            _bootstrap(root, version, lock)


def _bootstrap(root: Path, version: str, lock: int) -> None:
    suite, mirror = SUITES[version], os.environ.get(MIRROR_VARIABLE, _MIRROR)
    _check_mirror(version, suite, mirror)
    log = root.with_name(f"{root.name}.log")
    log.write_bytes(b"")
    process = spawn(
        [*_OWN_MOUNTS, "sh", "-c", _MAKE, "sh", str(root), version, suite, mirror],
        folder=root.parent,
        environment=_environment(),
        output=log,
        # Whoever waits for the lock waits for all that still works on the root.
        kept_files=[lock],
    )
    try:
        process.wait(_MAKE_SECONDS)
    except subprocess.TimeoutExpired:
        raise RabbitMQError(f"making {root} took more than {_MAKE_SECONDS:.0f} s: see {log}") from None
    finally:
        end(process)
    if not root.is_dir():
        raise RabbitMQMissingError(f"RabbitMQ {version} could not be installed in {root}: {_reason(log)}")


def _check_mirror(version: str, suite: str, mirror: str) -> None:
    """debootstrap tries a mirror that doesn't answer for many minutes."""
    try:
        urlopen(f"{mirror}/dists/{suite}/InRelease", timeout=_MIRROR_SECONDS).close()
    except (OSError, ValueError) as error:
        raise RabbitMQMissingError(
            f"RabbitMQ {version} comes from Debian's {suite}, which can't be had from {mirror} ({error}): "
            f"name another mirror in {MIRROR_VARIABLE}"
        ) from None


def _reason(log: Path) -> str:
    """The first error that debootstrap printed; the last line if it printed none."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("E: ")]
    return (errors or [line for line in lines if line][-1:] or ["nothing was printed"])[0]


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold a lock that other processes respect; wait for it as long as it takes."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _PATH, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _which(program: str) -> str | None:
    return shutil.which(program, path=_PATH)
