"""Items of a mapping, one at a time, from wherever they come."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Final

Items = Iterable[Any] | AsyncIterable[Any]

#: Stands where there are no more items.
END: Final = object()


class ItemSource:
    """
    Asks an iterable, or an asynchronous one, for one item at a time.

    :param items: the iterable.
    """

    def __init__(self, items: Items) -> None:
        self._iterator: Iterator[Any] | None = None
        self._asynchronous: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._asynchronous = aiter(items)
        else:
            self._iterator = iter(items)

    async def next(self) -> Any:
        """:returns: an item, or :data:`END`."""
        if self._asynchronous is not None:
            return await anext(self._asynchronous, END)
        assert self._iterator is not None
        return next(self._iterator, END)
