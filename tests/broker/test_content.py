"""A message that comes frame by frame."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.broker._content import IncomingContent, Publication
from crew_tx.broker._errors import ReplyError


class ContentTests(SynchronousTestCase):
    """At most ten bytes of body."""

    def setUp(self) -> None:
        self.content = IncomingContent(10)
        self.content.check_idle()
        self.content.begin(("a",))

    def refusal(self, take: object, *arguments: object) -> int:
        """The code that a frame is refused with."""
        error: ReplyError = self.assertRaises(ReplyError, take, *arguments)  # type: ignore[arg-type]
        return error.code

    def test_a_body_in_parts(self) -> None:
        self.assertIs(self.content.header(5, {"p": 1}), None)
        self.assertIs(self.content.body(b"ab"), None)
        self.assertEqual(self.content.body(b"cde"), Publication(("a",), {"p": 1}, b"abcde"))
        self.content.check_idle()

    def test_no_body(self) -> None:
        self.assertEqual(self.content.header(0, {}), Publication(("a",), {}, b""))
        self.content.check_idle()

    def test_more_than_was_announced(self) -> None:
        self.content.header(3, {})
        self.assertEqual(self.refusal(self.content.body, b"abcd"), 501)

    def test_more_than_is_taken(self) -> None:
        self.assertEqual(self.refusal(self.content.header, 11, {}), 406)

    def test_out_of_order(self) -> None:
        self.assertEqual(self.refusal(self.content.check_idle), 505)
        self.assertEqual(self.refusal(self.content.body, b"a"), 505)
        self.content.header(3, {})
        self.assertEqual(self.refusal(self.content.header, 3, {}), 505)
        self.assertEqual(self.refusal(self.content.check_idle), 505)

    def test_without_a_method(self) -> None:
        self.content.forget()
        self.assertEqual(self.refusal(self.content.header, 3, {}), 505)
        self.assertEqual(self.refusal(self.content.body, b"a"), 505)
