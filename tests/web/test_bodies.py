"""Content types."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.web.answers import Preferences, preferences
from crew_tx.web.bodies import CBOR, JSON, check_content_type, choose
from crew_tx.web.problems import ProblemError


class ChoiceTests(SynchronousTestCase):
    """What a response is written in."""

    def test_what_a_client_prefers(self) -> None:
        """By the most specific range, and its quality."""
        for accept, chosen in (
            (None, (JSON, CBOR)),
            ("*/*", (JSON, CBOR)),
            ("application/cbor", (CBOR,)),
            ("application/json;q=0.5, application/cbor", (CBOR, JSON)),
            ("application/*;q=0.1, application/json;q=0", (CBOR,)),
            ("text/html, */*;q=0.1", (JSON, CBOR)),
            ("APPLICATION/JSON ; charset=utf-8", (JSON,)),
        ):
            self.assertEqual(chosen, choose(accept, JSON), accept)
        self.assertEqual((CBOR, JSON), choose("*/*", CBOR))

    def test_nothing_that_it_takes_is_406(self) -> None:
        """So is what can't be read."""
        for accept in ("text/html", "*/*;q=0", "*/*;q=nan", "*/*;q=2", "application/json;q=x", ""):
            self.assertRaises(ProblemError, choose, accept, JSON)

    def test_a_request_says_what_it_is(self) -> None:
        """With parameters or without."""
        self.assertEqual(JSON, check_content_type("Application/JSON; charset=utf-8"))
        for header in (None, "", "text/plain", "application/jsonx", "application/json, text/plain"):
            error = self.assertRaises(ProblemError, check_content_type, header)
            self.assertEqual(415, error.problem.status)


class PreferenceTests(SynchronousTestCase):
    """The header Prefer."""

    def test_what_is_understood_is_taken(self) -> None:
        """And the rest passed over."""
        for header, expected in (
            (None, Preferences()),
            ("respond-async", Preferences(True)),
            ("Respond-Async, wait=10", Preferences(True, 10)),
            ("wait=1.5; x=y, return=minimal", Preferences(False, 1.5)),
            ("wait=-1, wait=1e9, wait=, wait", Preferences()),
        ):
            self.assertEqual(expected, preferences(header), header)
