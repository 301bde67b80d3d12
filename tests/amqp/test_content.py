"""Content: how it is put together, and how its properties are named."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import methods
from crew_tx.amqp.content import ContentAssembler, ContentProperties
from crew_tx.errors import ProtocolError

METHOD = (methods.BASIC_DELIVER, ("tag", 1, False, "", "key"))
PROPERTIES = {"content_type": "text/plain"}


class AssemblerTests(SynchronousTestCase):
    """What a :class:`ContentAssembler` makes of frames."""

    def setUp(self) -> None:
        self.assembler = ContentAssembler()

    def begin(self, size: int) -> object:
        self.assembler.method(*METHOD)
        return self.assembler.header(size, PROPERTIES)

    def assert_refused(self, code: int, *frame: object) -> None:
        """A header, or a body, raises with that code."""
        feed = self.assembler.body if len(frame) == 1 else self.assembler.header
        with self.assertRaises(ProtocolError) as caught:
            feed(*frame)  # type: ignore[arg-type]
        self.assertEqual(caught.exception.reply_code, code)

    def test_an_empty_body_is_complete_with_its_header(self) -> None:
        """No body frame comes."""
        self.assertEqual(self.begin(0), (*METHOD, PROPERTIES, b""))
        self.assertTrue(self.assembler.idle)

    def test_a_body_of_one_frame_is_complete_with_it(self) -> None:
        """The same bytes, not a copy."""
        body = b"a body"
        self.assertIsNone(self.begin(6))
        content = self.assembler.body(body)
        assert content is not None
        self.assertEqual(content, (*METHOD, PROPERTIES, body))
        self.assertIs(content[3], body)

    def test_a_body_of_several_frames_is_put_together(self) -> None:
        """It is complete with the last."""
        self.begin(6)
        self.assertIsNone(self.assembler.body(b"a "))
        self.assertIsNone(self.assembler.body(b"bod"))
        self.assertEqual(self.assembler.body(b"y"), (*METHOD, PROPERTIES, b"a body"))

    def test_one_content_after_another(self) -> None:
        """Nothing of the first is left."""
        for body in (b"first", b"second", b""):
            done = self.begin(len(body))
            for octet in body:
                done = self.assembler.body(bytes((octet,)))
            self.assertEqual(done, (*METHOD, PROPERTIES, body))

    def test_it_is_idle_only_between_contents(self) -> None:
        """A method may come only then."""
        self.assertTrue(self.assembler.idle)
        self.assembler.method(*METHOD)
        self.assertFalse(self.assembler.idle)
        self.assembler.header(1, PROPERTIES)
        self.assertFalse(self.assembler.idle)
        self.assembler.body(b"x")
        self.assertTrue(self.assembler.idle)

    def test_a_header_needs_a_method(self) -> None:
        """And comes once."""
        self.assert_refused(505, 0, PROPERTIES)
        self.begin(1)
        self.assert_refused(505, 0, PROPERTIES)

    def test_a_body_needs_a_header(self) -> None:
        """Between them nothing is known of its size."""
        self.assert_refused(505, b"x")
        self.assembler.method(*METHOD)
        self.assert_refused(505, b"x")

    def test_a_body_is_not_longer_than_announced(self) -> None:
        """With its first frame or its last."""
        self.begin(3)
        self.assert_refused(501, b"four")
        self.assembler = ContentAssembler()
        self.begin(3)
        self.assembler.body(b"fo")
        self.assert_refused(501, b"ur")


class PropertiesTests(SynchronousTestCase):
    """Both spellings of a property's name."""

    def setUp(self) -> None:
        self.properties = ContentProperties.of({"delivery_mode": 2, "headers": {"a_b": 1}})

    def test_they_are_named_as_in_the_specification(self) -> None:
        """As txamqp's users find them; what is inside headers keeps its name."""
        self.assertEqual(self.properties, {"delivery-mode": 2, "headers": {"a_b": 1}})

    def test_either_spelling_finds_a_property(self) -> None:
        """By index, by ``get`` and by ``in``."""
        for name in ("delivery-mode", "delivery_mode"):
            self.assertEqual(self.properties[name], 2)
            self.assertEqual(self.properties.get(name), 2)
            self.assertIn(name, self.properties)

    def test_a_property_that_is_not_set_is_not_there(self) -> None:
        """As in any dict."""
        for name in ("content-type", "content_type"):
            self.assertRaises(KeyError, self.properties.__getitem__, name)
            self.assertEqual(self.properties.get(name, "none"), "none")
            self.assertNotIn(name, self.properties)
        self.assertNotIn(7, self.properties)
