"""Where programs listen: the option ``--listen``, and what is said of a place where that can't be."""

from __future__ import annotations

import errno
import re
from ipaddress import ip_address

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage

from crew_tx.cli.ending import FAILED, REFUSED
from crew_tx.cli.options import ProgramOptions
from crew_tx.cli.readers import shown
from crew_tx.errors import ConfigurationError

_CODES = {errno.EACCES: REFUSED, errno.EADDRNOTAVAIL: REFUSED}
_REMEDIES = {
    errno.EADDRINUSE: "{taker} there: end it, or listen elsewhere, as by",
    errno.EACCES: "take a port above 1023, as by",
    errno.EADDRNOTAVAIL: "give an address of this machine, as by",
}


_SEPARATOR = re.compile(r"(?<!\\):")


class ServerOptions(ProgramOptions):
    """
    The options of a program that listens, and takes no arguments.

    :cvar elsewhere: a ``--listen`` that would do.
    """

    elsewhere: str

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"takes options only, no {shown(arguments[0])}")

    def endpoint(self, reactor: object) -> IStreamServerEndpoint:
        """
        Where to listen.

        :raises ConfigurationError: if Twisted can't read it.
        """
        return endpoint_of(reactor, self.settings["listen"], self.where("listen"), self.elsewhere)


def endpoint_of(reactor: object, text: str, where: str, elsewhere: str) -> IStreamServerEndpoint:
    """
    Read an endpoint, as Twisted writes them.

    :param where: what it was given by, for people.
    :param elsewhere: an option that would do.
    :raises ConfigurationError: if it is none.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, text)
        return endpoint
    except Exception as error:
        raise ConfigurationError(
            f"{where}: {shown(text)} is no endpoint ({error}); write {elsewhere}"
        ) from None


def is_loopback(endpoint: str) -> bool:
    """Whether nobody but this machine can connect to an endpoint, given as Twisted writes it."""
    kind, *parts = (re.sub(r"\\(.)", r"\1", part) for part in _SEPARATOR.split(endpoint))
    if kind == "unix":
        return True
    interface = dict(part.partition("=")[::2] for part in parts).get("interface", "")
    try:
        return interface == "localhost" or ip_address(interface).is_loopback
    except ValueError:
        return False


def not_listening(error: Exception, elsewhere: str, taker: str = "another program is") -> tuple[int, str]:
    """
    The exit code, and what to say.

    :param elsewhere: an option that would do.
    :param taker: what has its place, with a verb.
    """
    number = getattr(getattr(error, "socketError", None), "errno", None) or 0
    remedy = _REMEDIES.get(number, "try").format(taker=taker)
    return _CODES.get(number, FAILED), f"can't listen on {_place(error)}; {remedy} {elsewhere}"


def _place(error: Exception) -> str:
    if not isinstance(error, CannotListenError):
        return f"its endpoint: {error}"
    text = getattr(error.socketError, "strerror", None) or str(error.socketError)
    return f"{error.interface or 'any address'}, port {error.port}: {text}"
