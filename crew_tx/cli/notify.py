"""
Telling the service manager how we are, as systemd's sd_notify(3) has it.

Each notice is a datagram of lines ``NAME=value`` to the socket that
``NOTIFY_SOCKET`` names. A supervisor's children write theirs into a pipe, and
the supervisor sums them up: the service manager hears of the main process alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

ADDRESS = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"
#: Ours would let the programs that tasks start speak for us.
_VARIABLES = (ADDRESS, _WATCHDOG, "WATCHDOG_PID")

#: The file descriptor of a child's pipe, and how its address is written; systemd has none like it.
PIPE = 3
_DESCRIPTOR = "fd:"
PIPE_ADDRESS = f"{_DESCRIPTOR}{PIPE}"

#: Seconds between two looks; shorter where the watchdog is.
INTERVAL = 1.0
_LOOKS_A_WATCH = 3

_log = Logger()

#: Takes a notice; raises OSError if it can't.
Send = Callable[[bytes], object]


class Health(NamedTuple):
    """
    How a program is.

    :ivar well: whether it does what it is for: then it is ready, and its watchdog is served.
    :ivar text: the same for people, in one line.
    """

    well: bool
    text: str


class Notifier:
    """
    Looks again and again, and tells.

    The watchdog is served only while all is well; also while it stops, which
    has a time limit of its own, and for which it lets go of its connection.

    :param clock: an ``IReactorTime``.
    :param interval: seconds between two looks.
    """

    def __init__(
        self, clock: IReactorTime, look: Callable[[], Health], send: Send, interval: float = INTERVAL
    ) -> None:
        self._look = look
        self._send = send
        self._interval = interval
        self._told_ready = False
        self._stopping = False
        self._failed = False
        self._text = ""
        self._loop = LoopingCall(self._tell)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to look; the first time after one interval."""
        self._loop.start(self._interval, now=False)

    def stopping(self) -> None:
        """The program begins to stop."""
        self._stopping = True
        self._write([*self._status("stopping"), "STOPPING=1"])

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def _tell(self) -> None:
        health = self._look()
        lines = self._status(f"stopping: {health.text}" if self._stopping else health.text)
        if health.well and not self._told_ready and not self._stopping:
            self._told_ready = True
            lines.append("READY=1")
        if health.well or self._stopping:
            lines.append("WATCHDOG=1")
        self._write(lines)

    def _status(self, text: str) -> list[str]:
        """Only where it is another than before."""
        before, self._text = self._text, text
        return [] if text == before else [f"STATUS={' '.join(text.split())}"]

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        try:
            self._send("".join(f"{line}\n" for line in lines).encode(errors="replace"))
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warn("the service manager can't be told: {error}", error=str(error))
            self._failed = True
            # All that was in it has to be told again.
            self._told_ready = False
            self._text = ""


class PipedNotices:
    """
    What the children of a supervisor tell it.

    :param clock: an ``IReactorTime``.
    """

    #: Seconds after which a child that does not say that it is well counts as not.
    LATE = 10 * INTERVAL

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._well: dict[str, float] = {}

    def received(self, name: str, data: bytes) -> None:
        """
        A child wrote.

        :param data: lines, of which the last may be cut: then the next look has it whole.
        """
        if b"WATCHDOG=1\n" in data:
            self._well[name] = self._clock.seconds()

    def gone(self, name: str) -> None:
        """A child has ended."""
        self._well.pop(name, None)

    def health(self, wanted: set[str]) -> Health:
        """
        That of all together: well while each is.

        :param wanted: the names of those that should be there.
        """
        now = self._clock.seconds()
        well = {name for name, heard in self._well.items() if now - heard < self.LATE}
        missing = sorted(wanted - well)
        text = f"{len(wanted) - len(missing)} of {len(wanted)} workers consume"
        if missing:
            return Health(False, f"{text}; not {', '.join(missing)}")
        return Health(True, text)


def make_notifier(
    clock: IReactorTime, look: Callable[[], Health], environment: MutableMapping[str, str]
) -> Notifier | None:
    """
    A notifier for whoever started us; None if nobody asked.

    What asks is taken out of the environment.
    """
    given = {name: environment.pop(name, "") for name in _VARIABLES}
    address = given[ADDRESS]
    if not address:
        return None
    try:
        return Notifier(clock, look, sender(address), _interval(given[_WATCHDOG]))
    except ValueError as error:
        _log.warn("{variable} in the environment: {error}", variable=ADDRESS, error=str(error))
        return None


def environment_for_children(environment: MutableMapping[str, str]) -> dict[str, str]:
    """The variables by which a child tells its supervisor, where that has somebody to tell."""
    return {ADDRESS: PIPE_ADDRESS} if environment.get(ADDRESS) else {}


def sender(address: str) -> Send:
    """
    What sends a notice.

    :param address: a socket's path, ``@`` and an abstract socket's name, or ``fd:`` and a number.
    :raises ValueError: if it is none of them.
    """
    if address.startswith(_DESCRIPTOR) and address.removeprefix(_DESCRIPTOR).isdecimal():
        return _pipe(int(address.removeprefix(_DESCRIPTOR)))
    if address.startswith(("/", "@")) and len(address) > 1:
        return _datagrams(address)
    raise ValueError(f"takes a path, or @ and the name of an abstract socket, not {address[:40]!a}")


def _datagrams(address: str) -> Send:
    target = f"\0{address[1:]}" if address.startswith("@") else address

    def send(notice: bytes) -> None:
        # Opened each time: twistd may close what it finds open when it goes into the background.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            datagrams.sendto(notice, target)

    return send


def _pipe(descriptor: int) -> Send:
    try:
        # Programs that tasks start have no business with it.
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)
    except OSError as error:
        raise ValueError(f"{_DESCRIPTOR}{descriptor} is not open: {error.strerror}") from None
    return lambda notice: os.write(descriptor, notice)


def _interval(watchdog: str) -> float:
    """
    Seconds between two looks.

    :param watchdog: the microseconds within which to serve it, as text; empty if there is none.
    """
    if not (watchdog.isascii() and watchdog.isdecimal()) or not int(watchdog):
        return INTERVAL
    return min(INTERVAL, int(watchdog) / 1_000_000 / _LOOKS_A_WATCH)
