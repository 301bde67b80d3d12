"""Where RabbitMQ's programs are on this machine, and how to get them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from crew_tx.errors import CrewError

#: Debian's and Fedora's place. The programs of these names on the PATH are
#: wrappers there, which change user and folder.
PACKAGED = Path("/usr/lib/rabbitmq/bin")

_REMEDY = "install RabbitMQ 3.10 or later (the package rabbitmq-server)"

_VERSION = re.compile(r"rabbitmq_server-(\d[^/]*)")

# Debian starts a service when it installs it, unless this policy says no. A
# policy that is there already is its owner's matter.
_INSTALL = """
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$policy" && chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=300 update
apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$1"
"""


class RabbitMQError(CrewError):
    """A private RabbitMQ node can't be had, or a command of one failed."""


class RabbitMQMissingError(RabbitMQError):
    """There is no RabbitMQ of that version on this machine; the text says what to do about it."""


def find_rabbitmq() -> Path | None:
    """The folder of RabbitMQ's own programs; None where it, or Erlang's epmd, is not installed."""
    if shutil.which("epmd") is None:
        return None
    found = shutil.which("rabbitmq-server")
    folders = [PACKAGED] if found is None else [PACKAGED, Path(found).resolve().parent]
    # Beside the wrappers there is no rabbitmq-env.
    return next((folder for folder in folders if (folder / "rabbitmq-env").exists()), None)


def installed_programs() -> Path:
    """
    The folder that ``find_rabbitmq()`` finds.

    :raises RabbitMQMissingError: if it finds none.
    """
    programs = find_rabbitmq()
    if programs is None:
        raise RabbitMQMissingError("RabbitMQ is not installed: install the package rabbitmq-server")
    return programs


def installed_version() -> str:
    """The version that is installed, such as ``3.10.8``; empty where that, or RabbitMQ, can't be found."""
    programs = find_rabbitmq()
    if programs is None:
        return ""
    found = _VERSION.search(str((programs / "rabbitmq-env").resolve()))
    return "" if found is None else found[1]


def version_in(root: Path) -> str:
    """The version in a system's root folder; empty if there is none."""
    found = next((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"), None)
    return "" if found is None else found.name.removeprefix("rabbitmq_server-")


def install_package(package: str) -> str:
    """
    Let apt-get install a package. No service is started.

    :returns: the last line that it printed.
    :raises RabbitMQMissingError: if there is no apt-get, or no right to use it.
    """
    done = subprocess.run(
        [*_as_root(package), "sh", "-c", _INSTALL, "sh", package],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return (done.stdout.strip() or "it printed nothing").splitlines()[-1]


def install_packaged() -> Path:
    """
    Install the machine's own RabbitMQ where it is missing.

    :returns: the folder of its programs.
    :raises RabbitMQMissingError: if it can't be done; the text says what to install.
    """
    if (programs := find_rabbitmq()) is not None:
        return programs
    last = install_package("rabbitmq-server")
    if (programs := find_rabbitmq()) is None:
        raise RabbitMQMissingError(f"{_REMEDY}; apt-get could not: {last}")
    return programs


def _as_root(package: str) -> list[str]:
    remedy = _REMEDY if package == "rabbitmq-server" else f"install the package {package}"
    if shutil.which("apt-get") is None:
        raise RabbitMQMissingError(remedy)
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and subprocess.run([*sudo, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return sudo
    raise RabbitMQMissingError(f"{remedy}: sudo apt-get install {package}")
