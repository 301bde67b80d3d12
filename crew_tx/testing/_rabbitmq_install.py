"""Where RabbitMQ's programs are on this machine, and how to get them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from crew_tx.errors import CrewError

#: Debian's and Fedora's place. The programs of these names on the PATH are
#: wrappers there, which change user and folder.
_PACKAGED = Path("/usr/lib/rabbitmq/bin")

_REMEDY = "install RabbitMQ 3.10 or later (the package rabbitmq-server)"

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
apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends rabbitmq-server
"""


class RabbitMQError(CrewError):
    """A private RabbitMQ node can't be had, or a command of one failed."""


def find_rabbitmq() -> Path | None:
    """The folder of RabbitMQ's own programs; None where it, or Erlang's epmd, is not installed."""
    if shutil.which("epmd") is None:
        return None
    found = shutil.which("rabbitmq-server")
    folders = [_PACKAGED] if found is None else [_PACKAGED, Path(found).resolve().parent]
    # Beside the wrappers there is no rabbitmq-env.
    return next((folder for folder in folders if (folder / "rabbitmq-env").exists()), None)


def install_rabbitmq() -> Path:
    """
    Install RabbitMQ where it is missing: on Debian and its kin, as root or
    through a sudo that asks nothing. No service is started.

    :returns: the folder of its programs.
    :raises RabbitMQError: if it can't be done; the text says what to install.
    """
    if (bins := find_rabbitmq()) is not None:
        return bins
    done = subprocess.run(
        [*_as_root(), "sh", "-c", _INSTALL],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if (bins := find_rabbitmq()) is None:
        last = (done.stdout.strip() or "it printed nothing").splitlines()[-1]
        raise RabbitMQError(f"{_REMEDY}; apt-get could not: {last}")
    return bins


def _as_root() -> list[str]:
    if shutil.which("apt-get") is None:
        raise RabbitMQError(_REMEDY)
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and subprocess.run([*sudo, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return sudo
    raise RabbitMQError(f"{_REMEDY}: sudo apt-get install rabbitmq-server")
