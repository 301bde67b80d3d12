"""Methods, both ways."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import methods, spec
from crew_tx.amqp.methods import decode, encode
from crew_tx.errors import EncodeError, ProtocolError
from tests.amqp import captured

#: A value for each type that differs from its zero in every octet.
SAMPLES: dict[str, Any] = {
    "bit": True,
    "octet": 0xA1,
    "short": 0xA1B2,
    "long": 0xA1B2C3D4,
    "longlong": 0xA1B2C3D4E5F60718,
    "shortstr": "wörd",
    "longstr": "löng",
    "table": {"k": [1, {"l": None}]},
}
ZEROS: dict[str, Any] = {"bit": False, "shortstr": "", "longstr": "", "table": {}}


def _sample(method: Any, values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(values.get(field.type, 0) for field in method.fields)


class RoundTripTests(SynchronousTestCase):
    """Every method of the specification."""

    def test_every_method_comes_back_as_it_was(self) -> None:
        """With all of its arguments set."""
        for number, method in spec.methods().items():
            args = _sample(method, SAMPLES)
            self.assertEqual(decode(encode(number, args)), (number, args), method)

    def test_bits_keep_their_places(self) -> None:
        """One set, at each place."""
        names = [field.name for field in spec.methods()[methods.QUEUE_DECLARE].fields]
        for place in range(names.index("passive"), names.index("nowait") + 1):
            args = [0, "q", False, False, False, False, False, {}]
            args[place] = True
            payload = encode(methods.QUEUE_DECLARE, tuple(args))
            self.assertEqual(payload[8], 1 << (place - 2))
            self.assertEqual(decode(payload), (methods.QUEUE_DECLARE, tuple(args)))

    def test_none_stands_for_the_zero_of_a_type(self) -> None:
        """For every argument of every method."""
        for number, method in spec.methods().items():
            payload = encode(number, (None,) * len(method.fields))
            self.assertEqual(decode(payload), (number, _sample(method, ZEROS)), method)

    def test_every_method_has_its_name_here(self) -> None:
        """``basic.get-ok`` is ``BASIC_GET_OK``."""
        for number, name in spec.method_names().items():
            self.assertEqual(getattr(methods, name.upper().replace(".", "_").replace("-", "_")), number)

    def test_an_ack_is_these_bytes(self) -> None:
        """Written by hand from the protocol."""
        payload = b"\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x01\x02\x01"
        self.assertEqual(encode(methods.BASIC_ACK, (258, True)), payload)
        self.assertEqual(decode(payload), (0x003C0050, (258, True)))


class WritingTests(SynchronousTestCase):
    """What ``encode`` takes and refuses."""

    def _response(self, response: Any) -> bytes:
        return encode(methods.CONNECTION_START_OK, ({}, "M", response, "L"))[10:-2]

    def test_a_long_string_may_be_text_bytes_or_a_table(self) -> None:
        """A table's own size is the string's."""
        self.assertEqual(self._response("é"), b"\x00\x00\x00\x02\xc3\xa9")
        self.assertEqual(self._response(b"\x00\xff"), b"\x00\x00\x00\x02\x00\xff")
        self.assertEqual(self._response({"k": None}), b"\x00\x00\x00\x03\x01kV")

    def test_what_does_not_fit_is_refused(self) -> None:
        """The method is named, and the reason."""
        for number, args, why in (
            (methods.BASIC_QOS, (0, 65536, False), "basic.qos"),
            (methods.BASIC_QOS, (0, "1", False), "basic.qos"),
            (methods.BASIC_QOS, (0, 1), "expected 3"),
            (methods.BASIC_QOS, (0, 1, False, 0), "expected 3"),
            (methods.BASIC_CANCEL, ("t" * 256, False), "basic.cancel: a short string of 256 bytes"),
            (methods.CONFIRM_SELECT, (), "confirm.select"),
            (methods.BASIC_CONSUME, (0, "", "", False, False, False, False, {"a": {"b": 2**64}}), "a.b"),
            (methods.BASIC_CONSUME, (0, "", "", False, False, False, False, [1]), "basic.consume"),
            (methods.CONNECTION_SECURE_OK, (5,), "connection.secure-ok"),
            (0x00010002, (), "the method 1,2"),
        ):
            error = self.assertRaises(EncodeError, encode, number, args)
            self.assertIn(why, str(error))

    def test_an_error_does_not_tell_the_password(self) -> None:
        """What can't be written may be one."""
        for args in (({}, "PLAIN", "secret\ud800", "en_US"), ({}, "PLAIN", "secret", "x" * 256)):
            error = self.assertRaises(EncodeError, encode, methods.CONNECTION_START_OK, args)
            self.assertNotIn("secret", str(error))


class ReadingTests(SynchronousTestCase):
    """What ``decode`` makes of bytes."""

    def _assert_refused(self, payload: bytes, code: int, *bounds: int) -> str:
        error = self.assertRaises(ProtocolError, decode, payload, *bounds)
        self.assertEqual(error.reply_code, code)
        return str(error)

    def test_a_method_cut_anywhere_is_refused(self) -> None:
        """Whether the buffer ends there, or the frame alone."""
        for number, method in spec.methods().items():
            payload = encode(number, _sample(method, SAMPLES))
            for size in range(len(payload)):
                self._assert_refused(payload[:size], 502)
                self._assert_refused(payload, 502, 0, size)

    def test_a_method_with_more_behind_it_is_refused(self) -> None:
        """By its name."""
        for number, method in spec.methods().items():
            payload = encode(number, _sample(method, SAMPLES)) + b"\x00"
            self.assertIn(spec.method_names()[number], self._assert_refused(payload, 502))

    def test_an_unknown_method_is_not_implemented(self) -> None:
        """The error has both ids."""
        self.assertIn("60,121", self._assert_refused(b"\x00\x3c\x00\x79", 540))

    def test_the_bounds_are_kept(self) -> None:
        """What is around the payload is not looked at."""
        payload = encode(methods.BASIC_CANCEL, ("tag", True))
        data = b"xxx" + payload + b"yyy"
        expected = (methods.BASIC_CANCEL, ("tag", True))
        self.assertEqual(decode(data, 3, 3 + len(payload)), expected)
        self.assertEqual(decode(memoryview(data), 3, 3 + len(payload)), expected)

    def test_short_strings_that_are_not_utf_8_survive(self) -> None:
        """They can be written again as they came."""
        payload = b"\x00\x3c\x00\x1f\x02\xff\xfe"
        number, args = decode(payload)
        self.assertEqual(args, ("\udcff\udcfe",))
        self.assertEqual(encode(number, args), payload)

    def test_long_strings_that_are_not_utf_8_are_bytes(self) -> None:
        """A challenge may be anything."""
        payload = encode(methods.CONNECTION_SECURE, (b"\xff",))
        self.assertEqual(decode(payload), (methods.CONNECTION_SECURE, (b"\xff",)))


class CapturedTests(SynchronousTestCase):
    """Frames of a real broker."""

    def _args(self, frame: bytes, number: int) -> tuple[Any, ...]:
        found, args = decode(frame, 7, len(frame) - 1)
        self.assertEqual(found, number)
        return args

    def test_the_handshake_is_read(self) -> None:
        """With the broker's properties and limits."""
        major, minor, properties, mechanisms, locales = self._args(
            captured.CONNECTION_START, methods.CONNECTION_START
        )
        self.assertEqual((major, minor, mechanisms, locales), (0, 9, "PLAIN AMQPLAIN", "en_US"))
        self.assertEqual(properties["version"], "3.10.8")
        self.assertIs(properties["capabilities"]["consumer_cancel_notify"], True)
        tune = self._args(captured.CONNECTION_TUNE, methods.CONNECTION_TUNE)
        self.assertEqual(tune, (2047, 131072, 60))
        self.assertEqual(self._args(captured.CONNECTION_OPEN_OK, methods.CONNECTION_OPEN_OK), ("",))
        self.assertEqual(self._args(captured.CHANNEL_OPEN_OK, methods.CHANNEL_OPEN_OK), ("",))

    def test_what_comes_on_a_channel_is_read(self) -> None:
        """Answers, deliveries, confirms and bad news."""
        for frame, number, args in (
            (captured.QUEUE_DECLARE_OK, methods.QUEUE_DECLARE_OK, ("crew-capture-dead", 0, 0)),
            (captured.CONFIRM_SELECT_OK, methods.CONFIRM_SELECT_OK, ()),
            (captured.CONSUME_OK, methods.BASIC_CONSUME_OK, ("capture",)),
            (captured.ACK, methods.BASIC_ACK, (1, False)),
            (captured.DELIVER, methods.BASIC_DELIVER, ("capture", 1, False, "", "crew-capture-dead")),
            (captured.RETURN, methods.BASIC_RETURN, (312, "NO_ROUTE", "amq.direct", "nowhere")),
            (captured.CANCEL, methods.BASIC_CANCEL, ("capture", True)),
            (captured.GET_EMPTY, methods.BASIC_GET_EMPTY, ("",)),
            (captured.QUEUE_DELETE_OK, methods.QUEUE_DELETE_OK, (0,)),
            (captured.CONNECTION_CLOSE_OK, methods.CONNECTION_CLOSE_OK, ()),
        ):
            self.assertEqual(self._args(frame, number), args)

    def test_a_close_is_read(self) -> None:
        """The code, the text, and the method that was to blame."""
        code, text, class_id, method_id = self._args(captured.CHANNEL_CLOSE, methods.CHANNEL_CLOSE)
        self.assertEqual((code, class_id << 16 | method_id), (404, methods.QUEUE_DECLARE))
        self.assertIn("crew-no-such-queue", text)
        self.assertEqual(self._args(captured.CONNECTION_CLOSE, methods.CONNECTION_CLOSE)[0], 403)

    def test_they_are_written_as_the_broker_wrote_them(self) -> None:
        """Byte for byte, where no table is in them."""
        for frame in (captured.DELIVER, captured.RETURN, captured.CHANNEL_CLOSE, captured.CONNECTION_TUNE):
            self.assertEqual(encode(*decode(frame, 7, len(frame) - 1)), frame[7:-1])
