"""Frames, both ways."""

from __future__ import annotations

from time import process_time

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import frames, methods
from crew_tx.amqp.frames import (
    BODY,
    HEADER,
    HEARTBEAT,
    METHOD,
    FrameParser,
    pack_content,
    pack_heartbeat,
    pack_method,
    publish_prefix,
)
from crew_tx.amqp.properties import encode_properties
from crew_tx.errors import EncodeError, ProtocolError
from tests.amqp import captured

PROPERTIES = {"content_type": "text/plain", "headers": {"k": ["é"]}, "type": "crew.call"}
DELIVER = ("tag", 7, True, "exchange", "key")
DELIVERY = b"".join(
    [
        pack_method(3, methods.BASIC_DELIVER, DELIVER),
        *pack_content(3, 60, encode_properties(PROPERTIES), b"a body", 0),
    ]
)
FRAMES = [
    (METHOD, 3, (methods.BASIC_DELIVER, DELIVER)),
    (HEADER, 3, (60, 6, PROPERTIES)),
    (BODY, 3, b"a body"),
]


def _frame(kind: int, payload: bytes, channel: int = 1, end: bytes = b"\xce") -> bytes:
    return bytes((kind,)) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + end


def _parse(*reads: bytes, max_frame_size: int = 131072) -> list[frames.Frame]:
    parser = FrameParser(max_frame_size)
    return [frame for read in reads for frame in parser.feed(read)]


class ReadingTests(SynchronousTestCase):
    """What a :class:`FrameParser` makes of reads."""

    def test_a_delivery_is_three_frames(self) -> None:
        """Method, header and body, each decoded."""
        self.assertEqual(_parse(DELIVERY), FRAMES)

    def test_many_come_out_of_one_read(self) -> None:
        """In their order, with heartbeats between them."""
        expected = [*FRAMES, (HEARTBEAT, 0, None)] * 50
        self.assertEqual(_parse((DELIVERY + pack_heartbeat()) * 50), expected)

    def test_it_does_not_matter_how_the_bytes_are_cut(self) -> None:
        """In two at every place, in threes, and one by one."""
        data = DELIVERY * 2
        for size in range(len(data)):
            self.assertEqual(_parse(data[:size], data[size:]), FRAMES * 2)
        for size in (1, 3, 7, 8, 50):
            reads = [data[start : start + size] for start in range(0, len(data), size)]
            self.assertEqual(_parse(*reads), FRAMES * 2)

    def test_a_frame_is_out_with_its_last_byte(self) -> None:
        """Not with the one behind it."""
        parser = FrameParser()
        self.assertEqual(list(parser.feed(pack_heartbeat()[:-1])), [])
        self.assertEqual(list(parser.feed(b"\xce")), [(HEARTBEAT, 0, None)])

    def test_nothing_makes_no_frame(self) -> None:
        """An empty read is no end."""
        self.assertEqual(_parse(b"", DELIVERY, b""), FRAMES)

    def test_a_body_is_bytes_whatever_is_in_it(self) -> None:
        """Also where it is valid UTF-8, and where it has frames' own octets."""
        for body in ("é".encode(), b"\xff", b"\xce" * 8, DELIVERY):
            self.assertEqual(_parse(_frame(BODY, body)), [(BODY, 1, body)])

    def test_an_empty_body_frame_is_left_out(self) -> None:
        """Nothing is waiting for it."""
        self.assertEqual(_parse(_frame(BODY, b"") + DELIVERY), FRAMES)

    def test_who_stops_half_way_gets_the_rest_later(self) -> None:
        """A closed generator loses no frame."""
        parser = FrameParser()
        feed = parser.feed(DELIVERY)
        self.assertEqual(next(feed), FRAMES[0])
        feed.close()
        self.assertEqual(list(parser.feed(b"")), FRAMES[1:])

    def test_who_does_not_begin_gets_all_of_it_later(self) -> None:
        """A read is kept whether or not anybody looks at its frames."""
        parser = FrameParser()
        parser.feed(DELIVERY).close()  # type: ignore[attr-defined]
        self.assertEqual(list(parser.feed(b"")), FRAMES)

    def test_a_frame_of_the_largest_size_is_taken(self) -> None:
        """Its head and its end count."""
        frame = _frame(BODY, b"x" * 4088)
        self.assertEqual(len(frame), 4096)
        self.assertEqual(_parse(frame, max_frame_size=4096), [(BODY, 1, b"x" * 4088)])

    def test_the_limit_may_change_between_reads(self) -> None:
        """As it does once both sides have agreed on one."""
        parser = FrameParser(4096)
        parser.max_frame_size = 8192
        self.assertEqual(len(list(parser.feed(_frame(BODY, b"x" * 8184)))), 1)
        parser.max_frame_size = 4096
        self.assertRaises(ProtocolError, list, parser.feed(_frame(BODY, b"x" * 8184)))

    def test_no_limit_is_the_default_limit(self) -> None:
        """An unbounded frame could be anything."""
        self.assertEqual(len(_parse(_frame(BODY, b"x" * 131064), max_frame_size=0)), 1)
        self.assertRaises(ProtocolError, _parse, _frame(BODY, b"x" * 131065), max_frame_size=0)

    def test_a_frame_in_many_small_reads_is_put_together_once(self) -> None:
        """Putting it together at each of them would copy 137 GB here."""
        data = _frame(BODY, bytes(2**19 - 8))
        reads = (data[place : place + 1] for place in range(len(data)))
        began = process_time()
        self.assertEqual(len(_parse(*reads, max_frame_size=2**19)), 1)
        self.assertLess(process_time() - began, 4)


class BadFrameTests(SynchronousTestCase):
    """What a :class:`FrameParser` refuses."""

    def _assert_refused(self, data: bytes, code: int = 501, **limit: int) -> str:
        """Behind good frames, which come out first, in one read and in two; and for good."""
        for reads in ((DELIVERY + data,), (DELIVERY, data)):
            parser = FrameParser(**limit)
            seen: list[frames.Frame] = []
            error = self.assertRaises(ProtocolError, self._read, parser, reads, seen)
            self.assertEqual((seen, error.reply_code), (FRAMES, code))
            self.assertRaises(ProtocolError, parser.feed, pack_heartbeat())
        return str(error)

    def _read(self, parser: FrameParser, reads: tuple[bytes, ...], seen: list[frames.Frame]) -> None:
        for read in reads:
            for frame in parser.feed(read):
                seen.append(frame)

    def test_a_wrong_end_octet(self) -> None:
        """The sizes no longer fit."""
        self.assertIn("end octet", self._assert_refused(_frame(BODY, b"x", end=b"\xcd")))

    def test_an_unknown_type(self) -> None:
        """With or without the rest of the frame."""
        self.assertIn("type 4", self._assert_refused(_frame(4, b"x")))
        self.assertIn("type 4", self._assert_refused(_frame(4, b"x" * 50)[:8]))

    def test_too_large_a_frame(self) -> None:
        """Before any of it is kept, as well as when all of it is there."""
        for data in (_frame(BODY, b"x" * 4089), _frame(BODY, b"x" * 4089)[:8], b"\x03\0\1\xff\xff\xff\xff\0"):
            self.assertIn("4088 is the most", self._assert_refused(data, max_frame_size=4096))

    def test_a_malformed_method(self) -> None:
        """Cut short within its frame, too long for it, or without ids."""
        ack = pack_method(1, methods.BASIC_ACK, (1, True))[7:-1]
        for payload in (ack[:-1], ack + b"\0", b"\0\x3c\0", b"", b"\0\x3c\0\x1f\xff"):
            self._assert_refused(_frame(METHOD, payload), 502)
            self._assert_refused(_frame(METHOD, payload) + DELIVERY, 502)

    def test_an_unknown_method(self) -> None:
        """It is not implemented."""
        self._assert_refused(_frame(METHOD, b"\0\x3c\0\xff"), 540)

    def test_a_malformed_header(self) -> None:
        """Cut short within its frame, or too long for it."""
        header = _frame(HEADER, b"\0\x3c\0\0" + bytes(8) + encode_properties(PROPERTIES))[7:-1]
        for payload in (header[:-1], header[:13], header[:2], b"", header + b"\0"):
            self._assert_refused(_frame(HEADER, payload), 502)

    def test_a_header_of_a_class_without_content(self) -> None:
        """Only ``basic`` has messages, and no header has a weight."""
        self.assertIn("class 50", self._assert_refused(_frame(HEADER, b"\0\x32" + bytes(12))))
        self._assert_refused(_frame(HEADER, b"\0\x3c\0\1" + bytes(10)))

    def test_a_broker_of_another_version(self) -> None:
        """It answers with the header of what it speaks, and nothing else."""
        for reads in ((b"AMQP\0\1\0\0",), (b"AM", b"QP\0", b"\1\0\0")):
            error = self.assertRaises(ProtocolError, _parse, *reads)
            self.assertIn("1-0-0", str(error))
        self.assertIn("0-9-1", str(self.assertRaises(ProtocolError, _parse, captured.REFUSAL)))

    def test_a_protocol_header_later_on(self) -> None:
        """There it is but a frame of an unknown type."""
        self.assertIn("unknown type", self._assert_refused(b"AMQP\0\1\0\0"))

    def test_a_header_that_is_too_short_for_its_head_is_refused(self) -> None:
        """Behind a method, and at the end of what came."""
        deliver = frames.pack_method(1, methods.BASIC_DELIVER, ("tag", 1, False, "", "key"))
        for length in range(14):
            parser = FrameParser(join_content=True)
            data = deliver + _frame(HEADER, b"\0\x3c".ljust(length, b"\0")[:length]) + _frame(BODY, b"")
            with self.assertRaises(ProtocolError):
                list(parser.feed(data))


class WritingTests(SynchronousTestCase):
    """What is packed."""

    def test_a_heartbeat_is_these_bytes(self) -> None:
        """Eight of them."""
        self.assertEqual(pack_heartbeat(), b"\x08\0\0\0\0\0\0\xce")

    def test_a_method_is_in_a_frame_of_its_own(self) -> None:
        """On its channel."""
        frame = pack_method(258, methods.BASIC_RECOVER, (True,))
        self.assertEqual(frame, b"\x01\x01\x02\0\0\0\x05\0\x3c\0\x6e\x01\xce")

    def test_content_is_a_header_and_a_body(self) -> None:
        """These bytes, written by hand from the protocol."""
        header = b"\x02\0\1\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\0\x02\x10\0\x02\xce"
        content = pack_content(1, 60, encode_properties({"delivery_mode": 2}), b"ab", 131072)
        self.assertEqual(b"".join(content), header + b"\x03\0\1\0\0\0\x02ab\xce")

    def test_an_empty_body_has_no_frame(self) -> None:
        """The header says that nothing follows."""
        content = b"".join(pack_content(1, 60, b"\0\0", b"", 4096))
        self.assertEqual(content, _frame(HEADER, b"\0\x3c" + bytes(12)))

    def test_a_body_is_cut_to_the_agreed_size(self) -> None:
        """No frame is larger, and none smaller than it need be."""
        for size, sizes in ((4088, [4088]), (4089, [4088, 1]), (8176, [4088] * 2), (8177, [4088, 4088, 1])):
            body = bytes(range(256)) * 40
            data = b"".join(pack_content(1, 60, b"\0\0", body[:size], 4096))
            [(_, _, header), *bodies] = _parse(data, max_frame_size=4096)
            self.assertEqual(header[1], size)
            self.assertEqual([len(part) for _, _, part in bodies], sizes)
            self.assertEqual(b"".join(part for _, _, part in bodies), body[:size])

    def test_no_limit_is_the_default_limit(self) -> None:
        """Rather than a frame of any size."""
        body = bytes(300_000)
        parsed = _parse(b"".join(pack_content(1, 60, b"\0\0", body, 0)))
        self.assertEqual([len(part) for _, _, part in parsed[1:]], [131064, 131064, 300_000 - 2 * 131064])

    def test_a_publish_is_packed_once(self) -> None:
        """The same bytes come for the same names."""
        first = publish_prefix(1, "exchange", "key", True)
        self.assertIs(publish_prefix(1, "exchange", "key", True), first)
        args = (0, "exchange", "key", True, False)
        self.assertEqual(_parse(first), [(METHOD, 1, (methods.BASIC_PUBLISH, args))])
        self.assertNotEqual(publish_prefix(1, "exchange", "key", False), first)

    def test_too_long_a_name_is_refused(self) -> None:
        """Before anything is written."""
        self.assertRaises(EncodeError, publish_prefix, 1, "exchange", "k" * 256, True)


class CapturedTests(SynchronousTestCase):
    """Frames of a real broker."""

    def test_all_of_them_are_read(self) -> None:
        """In one read, as if they came on one connection."""
        names = [name for name in vars(captured) if name.isupper() and name != "REFUSAL"]
        parsed = _parse(b"".join(getattr(captured, name) for name in names))
        self.assertEqual(len(parsed), len(names))
        kinds = [kind for kind, _, _ in parsed]
        self.assertEqual((kinds.count(HEADER), kinds.count(BODY), kinds.count(HEARTBEAT)), (2, 2, 1))

    def test_a_returned_message_is_read(self) -> None:
        """The method, the properties and the body."""
        data = captured.RETURN + captured.RETURN_HEADER + captured.RETURN_BODY
        self.assertEqual(
            _parse(data),
            [
                (METHOD, 1, (methods.BASIC_RETURN, (312, "NO_ROUTE", "amq.direct", "nowhere"))),
                (HEADER, 1, (60, 4, {"delivery_mode": 1, "message_id": "m1"})),
                (BODY, 1, b"lost"),
            ],
        )
