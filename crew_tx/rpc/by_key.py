"""
Pairs of a key and a value, reduced for each key: on a worker, before it answers, and in the caller.

The same function does both. What a worker has combined is reduced with what
others have: so a reducer has to be one that may be used in steps, as a sum may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import wraps
from typing import Any, ParamSpec

from crew_tx.errors import InvalidArgumentError

Parameters = ParamSpec("Parameters")
Pairs = Mapping[Any, Any] | Iterable[tuple[Any, Any]]
#: Called with what a key has so far, and one value more; gives what it has then.
Reducer = Callable[[Any, Any], Any]
#: Gives what a key has before its first value.
Initial = Callable[[], Any]


def combine(
    pairs: Pairs,
    reducer: Reducer,
    initial: Initial | None = None,
    into: MutableMapping[Any, Any] | None = None,
) -> MutableMapping[Any, Any]:
    """
    Reduce the values of each key to one.

    :param pairs: a map, or pairs of a key and a value; asked for one at a time.
    :param reducer: called with what a key has so far, and one value more; gives what it has then.
    :param initial: called for each new key, for what it has at first, such as
        ``list``; without it the first value is what there is.
    :param into: what to add to; a new dict without it.
    :returns: what each key has.
    :raises InvalidArgumentError: if something else than pairs comes.
    """
    reduced: MutableMapping[Any, Any] = {} if into is None else into
    for key, value in pairs_of(pairs):
        if key in reduced:
            reduced[key] = reducer(reduced[key], value)
        else:
            reduced[key] = value if initial is None else reducer(initial(), value)
    return reduced


def combined(
    reducer: Reducer, initial: Initial | None = None
) -> Callable[[Callable[Parameters, Pairs]], Callable[Parameters, dict[Any, Any]]]:
    """
    A decorator for a task that yields pairs: it answers with a map of what each key has in its piece.

    So an answer has as many entries as the piece has keys, not as it has pairs::

        @Task("count")
        @combined(operator.add)
        def count(text):
            for word in text.split():
                yield word, 1

    :param reducer: as of :func:`combine`, as is ``initial``.
    """

    def decorate(function: Callable[Parameters, Pairs]) -> Callable[Parameters, dict[Any, Any]]:
        @wraps(function)
        def combining(*args: Parameters.args, **kwargs: Parameters.kwargs) -> dict[Any, Any]:
            reduced: dict[Any, Any] = {}
            combine(function(*args, **kwargs), reducer, initial, reduced)
            return reduced

        return combining

    return decorate


def pairs_of(pairs: Any) -> Iterator[tuple[Any, Any]]:
    """
    Its pairs, as they are asked for. A key that went as a tuple, and came as a list, is a tuple again.

    :raises InvalidArgumentError: if it, or something in it, is of another shape.
    """
    if isinstance(pairs, Mapping):
        yield from pairs.items()
        return
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise InvalidArgumentError(
            "what is reduced by key is a map, or pairs of a key and a value, "
            f"and not of the type {type(pairs).__name__}"
        )
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidArgumentError(
                f"a pair is a key and a value, and not something of the type {type(pair).__name__} "
                "with more or less"
            )
        key, value = pair
        yield tuple(key) if isinstance(key, list) else key, value
