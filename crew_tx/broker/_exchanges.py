"""Exchanges, and where each sends a message with given routing keys and headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from crew_tx.broker._arguments import erlang_type
from crew_tx.broker._errors import ReplyError

if TYPE_CHECKING:
    from crew_tx.broker._queues import Queue

Headers = dict[str, Any]

ALL = "all"
_MATCHES = (ALL, "any", "all-with-x", "any-with-x")
MATCH = "x-match"


class Binding(NamedTuple):
    """
    One way out of an exchange.

    :ivar target: a queue or an exchange.
    :ivar arguments: as pairs in order, so that bindings can be compared.
    """

    target: Queue | Exchange
    routing_key: str
    arguments: tuple[tuple[str, Any], ...]


class IRouter(Protocol):
    """Finds the bindings that match."""

    def add(self, binding: Binding) -> None: ...

    def remove(self, binding: Binding) -> None: ...

    def matching(self, routing_key: str, headers: Headers) -> Iterable[Binding]: ...


class DirectRouter:
    """The binding's key is the message's."""

    def __init__(self) -> None:
        self._bindings: dict[str, list[Binding]] = {}

    def add(self, binding: Binding) -> None:
        self._bindings.setdefault(binding.routing_key, []).append(binding)

    def remove(self, binding: Binding) -> None:
        bindings = self._bindings[binding.routing_key]
        bindings.remove(binding)
        if not bindings:
            del self._bindings[binding.routing_key]

    def matching(self, routing_key: str, headers: Headers) -> Iterable[Binding]:
        return self._bindings.get(routing_key, ())


class FanoutRouter:
    """Every binding matches."""

    def __init__(self) -> None:
        self._bindings: dict[Binding, None] = {}

    def add(self, binding: Binding) -> None:
        self._bindings[binding] = None

    def remove(self, binding: Binding) -> None:
        del self._bindings[binding]

    def matching(self, routing_key: str, headers: Headers) -> Iterable[Binding]:
        return self._bindings


class _Node:
    """
    A place in the tree of patterns.

    :param skips: whether it is a ``#``, and so stays where it is for any word.
    """

    __slots__ = ("bindings", "next", "skips")

    def __init__(self, skips: bool = False) -> None:
        self.skips = skips
        self.next: dict[str, _Node] = {}
        self.bindings: list[Binding] = []


class TopicRouter:
    """A tree of patterns, word by word: ``*`` is one word, ``#`` any number of them."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, binding: Binding) -> None:
        node = self._root
        for word in binding.routing_key.split("."):
            node = node.next.setdefault(word, _Node(word == "#"))
        node.bindings.append(binding)

    def remove(self, binding: Binding) -> None:
        words = binding.routing_key.split(".")
        path = [self._root]
        for word in words:
            path.append(path[-1].next[word])
        path[-1].bindings.remove(binding)
        for node, parent, word in zip(reversed(path[1:]), reversed(path[:-1]), reversed(words), strict=True):
            if node.next or node.bindings:
                return
            del parent.next[word]

    def matching(self, routing_key: str, headers: Headers) -> Iterable[Binding]:
        # All places at once, word by word: so there are no more steps than nodes and words, one by the other,
        # and a pattern with several "#", which is reached in several ways, counts once.
        places = _with_empty_hashes([self._root])
        for word in routing_key.split("."):
            # A "#" in a key is a word that no pattern has.
            words = {word, "*"} - {"#"}
            places = _with_empty_hashes(_behind(places, words))
        return [binding for node in places for binding in node.bindings]


def _behind(places: Iterable[_Node], words: set[str]) -> Iterator[_Node]:
    """Where one more word leads from these."""
    for node in places:
        if node.skips:
            yield node
        for word in words:
            if (following := node.next.get(word)) is not None:
                yield following


def _with_empty_hashes(places: Iterable[_Node]) -> dict[_Node, None]:
    """The same, and where a ``#`` that is no word at all leads from them."""
    found: dict[_Node, None] = {}
    for place in places:
        node: _Node | None = place
        while node is not None and node not in found:
            found[node] = None
            node = node.next.get("#")
    return found


class HeadersRouter(FanoutRouter):
    """The binding's arguments are compared with the message's headers."""

    def matching(self, routing_key: str, headers: Headers) -> Iterable[Binding]:
        return [binding for binding in self._bindings if _headers_match(dict(binding.arguments), headers)]


def _headers_match(wanted: Headers, headers: Headers) -> bool:
    match = wanted.get(MATCH, ALL)
    if not match.endswith("-with-x"):
        wanted = {name: value for name, value in wanted.items() if not name.startswith("x-")}
    else:
        wanted = {name: value for name, value in wanted.items() if name != MATCH}
    found = [name in headers and _is_same(value, headers[name]) for name, value in wanted.items()]
    return any(found) if match.startswith("any") else all(found)


def _is_same(wanted: object, value: object) -> bool:
    """Numbers are the same whatever their type, but a truth value is no number."""
    if wanted is None:
        return True
    return wanted == value and isinstance(wanted, bool) is isinstance(value, bool)


ROUTERS: dict[str, type[IRouter]] = {
    "direct": DirectRouter,
    "fanout": FanoutRouter,
    "headers": HeadersRouter,
    "topic": TopicRouter,
}


def check_match(arguments: Headers) -> None:
    """:raises ReplyError: 406, if a headers binding may not have such an ``x-match``."""
    match = arguments.get(MATCH, ALL)
    if not isinstance(match, str):
        shown = str(match).lower() if isinstance(match, bool) else match
        raise ReplyError(
            406,
            f"Invalid x-match field type {erlang_type(match)} (value {shown}); expected longstr",
        )
    if match not in _MATCHES:
        raise ReplyError(
            406,
            f'Invalid x-match field value <<"{match}">>; expected all, any, all-with-x, or any-with-x',
        )


class Exchange:
    """
    An exchange and its bindings.

    :ivar alternate: the exchange that gets what no binding matches, by name.
    :ivar sources: the exchanges that are bound to this one.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Headers | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments or {}
        self.alternate: str | None = self.arguments.get("alternate-exchange")
        self.sources: set[Exchange] = set()
        self._router: IRouter = ROUTERS[kind]()
        self._bindings: dict[Binding, None] = {}
        self._was_bound = False

    @property
    def bindings(self) -> list[Binding]:
        """All bindings, the oldest first."""
        return list(self._bindings)

    @property
    def is_unused(self) -> bool:
        """Whether nothing is bound to it."""
        return not self._bindings

    @property
    def is_over(self) -> bool:
        """Whether its last binding is gone, and it goes with it."""
        return self.auto_delete and self._was_bound and not self._bindings

    def bind(self, binding: Binding) -> None:
        """Add a binding; one that is there stays as it is."""
        if binding not in self._bindings:
            self._was_bound = True
            self._bindings[binding] = None
            self._router.add(binding)

    def unbind(self, binding: Binding) -> bool:
        """
        Take a binding away.

        :returns: whether it was there.
        """
        if binding not in self._bindings:
            return False
        del self._bindings[binding]
        self._router.remove(binding)
        return True

    def unbind_target(self, target: Queue | Exchange) -> bool:
        """
        Take every binding to a queue or an exchange away.

        :returns: whether there was any.
        """
        bindings = [binding for binding in self._bindings if binding.target is target]
        for binding in bindings:
            self.unbind(binding)
        return bool(bindings)

    def matching(self, routing_keys: list[str], headers: Headers) -> Iterator[Binding]:
        """The bindings that match any of the keys."""
        for routing_key in routing_keys:
            yield from self._router.matching(routing_key, headers)
