"""The version, once: packaging, the client properties and ``--version`` take it from here."""

from __future__ import annotations

__version__ = "0.1.0"
