"""How a serializer or a compression says no; :class:`Codec` turns it into an error of the tree."""

from __future__ import annotations


class UnwritableError(Exception):
    """A value can't be written; the text says why, and has nothing of the value but its type's name."""


class UnreadableError(Exception):
    """A body can't be read; the text says why, and has nothing of the body."""
