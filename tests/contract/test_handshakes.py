"""Logging in, and frames that no client should send."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from struct import pack
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.amqp import frames, methods
from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.wires import RawClient

REFUSED = (
    403,
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
    "For details see the broker logfile.",
)

AMQP_1_WITH_SASL = b"AMQP\x03\x01\x00\x00"


async def together(waits: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Let all take their time at once: RabbitMQ takes seconds for who doesn't log in."""
    for waiting in [Deferred.fromCoroutine(each) for each in waits]:
        await waiting


class Greeting(Behaviour):
    """The protocol header."""

    async def test_another_protocol_is_told_ours(self) -> None:
        ours = frames.PROTOCOL_HEADER
        # RabbitMQ 4 speaks AMQP 1.0 as well, and would rather have that.
        others = AMQP_1_WITH_SASL if self.since(4) else ours
        for header, answer in (
            (b"AMQP\x00\x00\x09\x02", ours),
            (b"AMQP\x00\x01\x00\x00", others),
            (b"GET / HTTP/1.1\r\n\r\n", others),
        ):
            raw = await self.raw()
            raw.write(header)
            await raw.until_ended()
            self.assertEqual(raw.received, answer)

    async def test_the_header_may_come_in_pieces(self) -> None:
        raw = await self.raw()
        for octet in frames.PROTOCOL_HEADER:
            raw.write(bytes([octet]))
            await raw.passes(0.01)
        await raw.hears("connection.start")

    async def test_less_than_a_header_is_no_answer_worth(self) -> None:
        raw = await self.raw()
        raw.write(b"GE")
        await raw.passes(0.1)
        self.assertEqual((raw.received, raw.ended), (b"", False))

    async def test_the_older_header_of_the_same_protocol(self) -> None:
        raw = await self.raw()
        raw.write(b"AMQP\x01\x01\x00\x09")
        await raw.hears("connection.start")

    async def test_what_the_broker_says_of_itself(self) -> None:
        raw = await self.raw()
        raw.write(frames.PROTOCOL_HEADER)
        major, minor, properties, mechanisms, locales = await raw.hears("connection.start")
        self.assertEqual((major, minor, locales), (0, 9, "en_US"))
        self.assertLessEqual({"PLAIN", "AMQPLAIN"}, set(mechanisms.split()))
        capabilities = properties["capabilities"]
        for name in (
            "authentication_failure_close",
            "basic.nack",
            "connection.blocked",
            "consumer_cancel_notify",
            "consumer_priorities",
            "exchange_exchange_bindings",
            "per_consumer_qos",
            "publisher_confirms",
        ):
            self.assertIs(capabilities.get(name), True, name)


class LoggingIn(Behaviour):
    """connection.start-ok."""

    async def test_each_mechanism(self) -> None:
        for mechanism in ("PLAIN", "AMQPLAIN"):
            client = await self.client(mechanism=mechanism)
            self.assertTrue(client.logged_in)

    async def test_a_wrong_password_or_user(self) -> None:
        await together(
            self.is_refused(**wrong)
            for wrong in ({"password": "wrong"}, {"user": "nobody"}, {"password": ""})
        )

    async def is_refused(self, **credentials: str) -> None:
        """Log in with these, and hear that it doesn't do."""
        raw = await self.raw()
        await raw.log_in(**credentials)
        self.assertEqual(await raw.is_refused(), REFUSED)

    async def test_who_does_not_ask_for_the_reason_is_not_told(self) -> None:
        raw = await self.raw()
        await raw.log_in(password="wrong", properties={})
        await raw.until_ended()
        self.assertEqual(raw.heard, [])

    async def test_a_mechanism_that_was_not_offered(self) -> None:
        await self.ends_silently(mechanism="SOME")

    async def test_a_response_that_can_not_be_read(self) -> None:
        await together(
            [
                self.ends_silently(response="guest"),
                self.ends_silently(response="\0guest"),
                self.ends_silently(mechanism="AMQPLAIN", response={"PASSWORD": "guest"}),
                # Nobody acts for another.
                self.ends_silently(response="other\0guest\0guest"),
            ]
        )

    async def ends_silently(self, mechanism: str = "PLAIN", response: Any = "\0guest\0guest") -> None:
        """Log in with these, and be left alone."""
        raw = await self.raw()
        raw.write(frames.PROTOCOL_HEADER)
        await raw.hears("connection.start")
        properties = {"capabilities": {"authentication_failure_close": True}}
        raw.method(0, methods.CONNECTION_START_OK, properties, mechanism, response, "en_US")
        await raw.until_ended()
        self.assertEqual(raw.heard, [])


class Tuning(Behaviour):
    """connection.tune-ok and connection.open."""

    @property
    def smallest(self) -> int:
        """Bytes of the smallest frames that may be agreed on: twice as much since RabbitMQ 4.1."""
        return 8192 if self.since(4, 1) else 4096

    async def tuned(self, channel_max: int, frame_max: int) -> RawClient:
        """A connection that has answered so, and opens its virtual host."""
        raw = await self.raw()
        await raw.log_in()
        await raw.hears("connection.tune")
        raw.method(0, methods.CONNECTION_TUNE_OK, channel_max, frame_max, 0)
        raw.method(0, methods.CONNECTION_OPEN, "/", "", False)
        return raw

    async def test_what_the_broker_offers(self) -> None:
        raw = await self.raw()
        await raw.log_in()
        self.assertEqual(await raw.hears("connection.tune"), (2047, 131072, 60))

    async def test_the_least_of_all(self) -> None:
        raw = await self.tuned(1, self.smallest)
        await raw.hears("connection.open-ok")

    async def test_too_many_channels_or_no_limit(self) -> None:
        await together(self.is_left_alone(count, 131072) for count in (0, 2048))

    async def test_frames_too_large_or_too_small_or_without_limit(self) -> None:
        await together(self.is_left_alone(2047, size) for size in (0, 131073, self.smallest - 1))

    async def is_left_alone(self, channel_max: int, frame_max: int) -> None:
        """The broker ends the connection, and doesn't say why."""
        raw = await self.tuned(channel_max, frame_max)
        await raw.until_ended()
        self.assertEqual(raw.heard, [])

    async def test_an_unknown_virtual_host(self) -> None:
        raw = await self.raw()
        await raw.log_in()
        await raw.hears("connection.tune")
        raw.method(0, methods.CONNECTION_TUNE_OK, 2047, 131072, 0)
        raw.method(0, methods.CONNECTION_OPEN, "contract", "", False)
        self.assertEqual(
            await raw.hears("connection.close"), (530, "NOT_ALLOWED - vhost contract not found", 10, 40)
        )

    async def test_a_step_too_early(self) -> None:
        await together(
            [
                self.is_too_early(methods.CONNECTION_TUNE_OK, 2047, 131072, 0),
                self.is_too_early(methods.CONNECTION_OPEN, "/", "", False),
                self.is_too_early(methods.CONNECTION_CLOSE, 200, "", 0, 0),
            ]
        )

    async def is_too_early(self, method_id: int, *arguments: Any) -> None:
        """Send a method in place of the first, and be left alone."""
        raw = await self.raw()
        raw.write(frames.PROTOCOL_HEADER)
        await raw.hears("connection.start")
        raw.method(0, method_id, *arguments)
        await raw.until_ended()
        self.assertEqual(raw.heard, [])

    async def test_a_channel_before_the_virtual_host(self) -> None:
        raw = await self.raw()
        await raw.log_in()
        await raw.hears("connection.tune")
        raw.method(1, methods.CHANNEL_OPEN, "")
        await raw.until_ended()
        self.assertEqual(raw.heard, [])

    async def test_more_channels_than_agreed_on(self) -> None:
        raw = await self.tuned(2, 131072)
        await raw.hears("connection.open-ok")
        for number in (1, 7):
            raw.method(number, methods.CHANNEL_OPEN, "")
            await raw.hears("channel.open-ok")
        raw.method(2, methods.CHANNEL_OPEN, "")
        text = "number of channels opened (2) has reached the negotiated channel_max (2)"
        self.assertEqual(await raw.is_refused(), (530, f"NOT_ALLOWED - {text}"))

    async def test_larger_frames_than_agreed_on(self) -> None:
        raw = await self.tuned(2, self.smallest)
        await raw.hears("connection.open-ok")
        raw.method(1, methods.CHANNEL_OPEN, "")
        await raw.hears("channel.open-ok")
        raw.write(frame(frames.BODY, 1, b"x" * 2 * self.smallest))
        code, _ = await raw.is_refused()
        self.assertEqual(code, 501)

    async def test_a_new_secret(self) -> None:
        raw = await self.tuned(2, self.smallest)
        await raw.hears("connection.open-ok")
        raw.method(0, methods.CONNECTION_UPDATE_SECRET, "guest", "new")
        await raw.hears("connection.update-secret-ok")

    async def test_the_end(self) -> None:
        raw = await self.tuned(2, self.smallest)
        await raw.hears("connection.open-ok")
        raw.method(0, methods.CONNECTION_CLOSE, 200, "bye", 0, 0)
        await raw.hears("connection.close-ok")


def frame(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    """A frame, right or wrong."""
    return pack("!BHI", kind, channel, len(payload)) + payload + end


def header(size: int) -> bytes:
    """The frame of a content's header."""
    return frame(frames.HEADER, 1, pack("!HHQH", 60, 0, size, 0))


def publish(raw: RawClient) -> None:
    """The method of a message, without what has to follow."""
    raw.method(1, methods.BASIC_PUBLISH, 0, "", "contract.nowhere", False, False)


class Frames(Behaviour):
    """Frames in the wrong place."""

    NO_METHOD = (505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0, 0)
    NO_HEADER = (
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
        60,
        40,
    )
    NO_BODY = (
        505,
        "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
        60,
        40,
    )

    async def refusal(self, send: Callable[[RawClient], object]) -> tuple[int, str, int, int]:
        """The arguments of the connection.close that something brings about."""
        raw = await self.raw()
        await raw.open()
        send(raw)
        code, text, class_id, method_id = await raw.hears("connection.close")
        return code, text, class_id, method_id

    async def test_content_without_a_method(self) -> None:
        for data in (header(3), frame(frames.BODY, 1, b"abc")):
            self.assertEqual(await self.refusal(lambda raw, data=data: raw.write(data)), self.NO_METHOD)

    async def test_a_method_in_place_of_a_header(self) -> None:
        self.assertEqual(await self.refusal(lambda raw: [publish(raw), publish(raw)]), self.NO_HEADER)

    async def test_a_body_in_place_of_a_header(self) -> None:
        body = frame(frames.BODY, 1, b"abc")
        self.assertEqual(await self.refusal(lambda raw: [publish(raw), raw.write(body)]), self.NO_HEADER)

    async def test_a_method_in_place_of_a_body(self) -> None:
        def send(raw: RawClient) -> None:
            publish(raw)
            raw.write(header(3))
            publish(raw)

        self.assertEqual(await self.refusal(send), self.NO_BODY)

    async def test_a_header_in_place_of_a_body(self) -> None:
        def send(raw: RawClient) -> None:
            publish(raw)
            raw.write(header(3) + header(3))

        self.assertEqual(await self.refusal(send), self.NO_BODY)

    async def test_a_channel_that_is_not_open(self) -> None:
        for method_id, arguments in (
            (methods.BASIC_QOS, (0, 1, False)),
            (methods.CHANNEL_CLOSE, (200, "", 0, 0)),
            (methods.CHANNEL_CLOSE_OK, ()),
        ):
            refusal = await self.refusal(
                lambda raw, number=method_id, given=arguments: raw.method(2, number, *given)
            )
            text = "CHANNEL_ERROR - expected 'channel.open'"
            self.assertEqual(refusal, (504, text, method_id >> 16, method_id & 0xFFFF))

    async def test_content_on_a_channel_that_is_not_open(self) -> None:
        self.assertEqual(
            await self.refusal(lambda raw: raw.write(frame(frames.BODY, 2, b"abc"))), self.NO_METHOD
        )

    async def test_a_channel_that_is_open_already(self) -> None:
        self.assertEqual(
            await self.refusal(lambda raw: raw.method(1, methods.CHANNEL_OPEN, "")),
            (504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10),
        )

    async def test_a_channels_method_on_channel_0(self) -> None:
        self.assertEqual(
            await self.refusal(lambda raw: raw.method(0, methods.BASIC_QOS, 0, 1, False)),
            (504, "CHANNEL_ERROR - unexpected method in connection state running", 60, 10),
        )

    async def test_a_step_of_the_handshake_again(self) -> None:
        for method_id, arguments in (
            (methods.CONNECTION_START_OK, ({}, "PLAIN", "\0guest\0guest", "en_US")),
            (methods.CONNECTION_TUNE_OK, (1, 4096, 0)),
            (methods.CONNECTION_OPEN, ("/", "", False)),
            (methods.CONNECTION_CLOSE_OK, ()),
        ):
            refusal = await self.refusal(
                lambda raw, number=method_id, given=arguments: raw.method(0, number, *given)
            )
            text = "CHANNEL_ERROR - unexpected method in connection state running"
            self.assertEqual(refusal, (504, text, method_id >> 16, method_id & 0xFFFF))

    async def test_methods_that_only_a_broker_sends(self) -> None:
        for method_id, arguments in (
            (methods.QUEUE_DECLARE_OK, ("", 0, 0)),
            (methods.BASIC_GET_EMPTY, ("",)),
            (methods.CHANNEL_OPEN_OK, ("",)),
            (methods.TX_SELECT_OK, ()),
        ):
            refusal = await self.refusal(
                lambda raw, number=method_id, given=arguments: raw.method(1, number, *given)
            )
            text = "COMMAND_INVALID - unimplemented method"
            self.assertEqual(refusal, (503, text, method_id >> 16, method_id & 0xFFFF))

    async def test_answers_that_nobody_waits_for(self) -> None:
        for method_id, arguments in (
            (methods.CHANNEL_FLOW_OK, (True,)),
            (methods.CHANNEL_CLOSE_OK, ()),
            (methods.BASIC_CANCEL_OK, ("a",)),
        ):
            refusal = await self.refusal(
                lambda raw, number=method_id, given=arguments: raw.method(1, number, *given)
            )
            text = "COMMAND_INVALID - unimplemented method"
            expected = (503, text, method_id >> 16, method_id & 0xFFFF)
            if method_id == methods.BASIC_CANCEL_OK and self.since(4, 3):
                # The channel of RabbitMQ 4.3 crashes.
                expected = (541, "INTERNAL_ERROR", 0, 0)
            self.assertEqual(refusal, expected)

    async def test_the_connections_method_on_a_channel(self) -> None:
        self.assertEqual(
            await self.refusal(lambda raw: raw.method(1, methods.CONNECTION_OPEN, "/", "", False)),
            (503, "COMMAND_INVALID - unimplemented method", 10, 40),
        )

    async def test_a_message_that_is_to_be_delivered_at_once_or_never(self) -> None:
        def send(raw: RawClient) -> None:
            raw.method(1, methods.BASIC_PUBLISH, 0, "", "contract.nowhere", False, True)
            raw.write(header(0))

        self.assertEqual(await self.refusal(send), (540, "NOT_IMPLEMENTED - immediate=true", 60, 40))

    async def test_what_is_no_frame(self) -> None:
        for data in (
            frame(7, 1, b"abc"),
            frame(frames.METHOD, 1, b"\0\x3c\0\x0a\0\0\0\0\0\1\0", end=b"\0"),
            frame(frames.METHOD, 1, b"\0\x3c\0\xc8"),
            frame(frames.METHOD, 1, b"\0\x3c\0\x0a\0"),
            frame(frames.METHOD, 1, b"\0\x3c\0\x0a\0\0\0\0\0\1\0more"),
            frame(frames.METHOD, 1, b"\0\x3c"),
            frame(frames.HEADER, 1, b"\0\x3c"),
        ):
            code, _, _, _ = await self.refusal(lambda raw, data=data: raw.write(data))
            self.assertEqual(code, 501, data)

    async def test_content_and_heartbeats_in_the_wrong_place(self) -> None:
        for data in (frame(frames.BODY, 0, b"abc"), frame(frames.HEARTBEAT, 1, b"")):
            code, text, _, _ = await self.refusal(lambda raw, data=data: raw.write(data))
            self.assertEqual((code, text[:16]), (505, "UNEXPECTED_FRAME"), data)

    async def test_what_comes_behind_a_mistake_is_not_done(self) -> None:
        raw = await self.raw()
        await raw.open()
        raw.method(1, methods.BASIC_GET, 0, "contract.missing", False)
        raw.method(1, methods.BASIC_GET, 0, "contract.missing", False)
        raw.method(1, methods.CHANNEL_CLOSE_OK)
        raw.method(1, methods.CHANNEL_OPEN, "")
        await raw.hears("channel.open-ok")
        raw.method(0, methods.CONNECTION_CLOSE, 200, "", 0, 0)
        await raw.hears("connection.close-ok")

    async def test_a_refusal_names_the_method(self) -> None:
        raw = await self.raw()
        await raw.open()
        raw.method(1, methods.BASIC_PUBLISH, 0, "contract.missing", "a", False, False)
        raw.write(header(0))
        text = "NOT_FOUND - no exchange 'contract.missing' in vhost '/'"
        self.assertEqual(await raw.hears("channel.close"), (404, text, 60, 40))


globals().update(on_each_broker(Greeting, LoggingIn, Tuning, Frames))
