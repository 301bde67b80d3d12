"""Warnings of libraries, which a test meets and can't help."""

from __future__ import annotations

import warnings

from twisted.trial.unittest import SynchronousTestCase


def pass_over(case: SynchronousTestCase, *beginnings: str) -> None:
    """Drop the warnings that a test has collected and that begin so; all others stay."""
    for warned in case.flushWarnings():
        if not str(warned["message"]).startswith(beginnings):
            warnings.warn_explicit(**warned)
