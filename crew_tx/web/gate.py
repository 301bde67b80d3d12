"""
What is decided about a request by its head alone, before its body is read.

Nothing of it needs a connection: a head goes in, and who asks comes out, or
what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from crew_tx.web.access import NOBODY, Credentials, Principal, host_of
from crew_tx.web.problems import Problem

_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Head:
    """
    The head of a request.

    :ivar path: what is before the question mark, as it came.
    :ivar length: of the body, in bytes; None where only its end will tell.
    :ivar hosts: all headers ``Host``.
    :ivar authorizations: all headers ``Authorization``.
    """

    method: str
    path: bytes
    length: int | None
    hosts: tuple[str, ...]
    authorizations: tuple[str, ...] = ()
    origin: str | None = None
    fetch_site: str | None = None


class Gate:
    """
    Lets requests in.

    :param credentials: who may; nobody has to say where there are none.
    :param hosts: what ``Host`` has to be, where nobody has to say who asks:
        else a page of another site could reach us by a name of its own that
        it has pointed here. None for anything.
    :param max_body: the bytes of a body.
    """

    def __init__(self, credentials: Credentials, hosts: frozenset[str] | None, max_body: int) -> None:
        self._credentials = credentials
        self._hosts = hosts
        self._max_body = max_body

    def admit(self, head: Head, *, is_open: bool = False, is_foreign: bool = False) -> Principal | Problem:
        """
        Who asks, or what is wrong.

        :param is_open: whether what is asked for is for everybody.
        :param is_foreign: whether it says itself by which names, and for which other sites, it is there.
        """
        return (
            _wrong_target(head)
            or self._wrong_host(head, is_foreign)
            or (None if is_foreign else self._other_site(head))
            or self._too_large(head.length)
            or self._principal(head, is_open)
        )

    def too_large(self) -> Problem:
        """A body that turned out to be too large."""
        return Problem(413, f"a body has {self._max_body} bytes here at the most")

    def _principal(self, head: Head, is_open: bool) -> Principal | Problem:
        if not self._credentials:
            return NOBODY
        found = None
        if len(head.authorizations) == 1:
            found = self._credentials.principal(head.authorizations[0])
        if found is not None:
            return found
        if is_open:
            return NOBODY
        challenges = tuple(("WWW-Authenticate", each) for each in self._credentials.challenges)
        return Problem(401, "show a credential that is known here, by Authorization", headers=challenges)

    def _wrong_host(self, head: Head, is_foreign: bool) -> Problem | None:
        host = host_of(head.hosts[0]) if len(head.hosts) == 1 else None
        if host is None:
            return Problem(400, "a request has one header Host, with a name or an address in it")
        if is_foreign or self._hosts is None or host in self._hosts:
            return None
        return Problem(421, "this gateway has another name; --allow-host lets it have more")

    def _other_site(self, head: Head) -> Problem | None:
        """What a page of another site has a browser send."""
        if head.method in _READING:
            return None
        is_other = head.fetch_site in ("cross-site", "same-site")
        if head.origin is not None:
            is_other = is_other or urlsplit_host(head.origin) != (head.hosts[0].lower() if head.hosts else "")
        return Problem(403, "pages of other sites have no say here") if is_other else None

    def _too_large(self, length: int | None) -> Problem | None:
        return self.too_large() if length is not None and length > self._max_body else None


def _wrong_target(head: Head) -> Problem | None:
    """What only a proxy is asked: a whole URL, or a host to connect to."""
    if head.path.startswith(b"/") or (head.method, head.path) == ("OPTIONS", b"*"):
        return None
    return Problem(400, "what is asked for is a path, which begins with a slash")


def urlsplit_host(origin: str) -> str | None:
    """The host and the port of an ``Origin``; None where it can't be read."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
