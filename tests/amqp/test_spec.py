"""The specification file, as txamqp reads it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from txamqp.spec import load as txamqp_load

from crew_tx.amqp.spec import SPEC_PATH, load, method_names, methods

#: What RabbitMQ added, and what txamqp's own files lack.
EXTENSIONS = {
    "confirm.select": (85, 10),
    "confirm.select-ok": (85, 11),
    "basic.nack": (60, 120),
    "basic.recover-ok": (60, 111),
    "exchange.bind": (40, 30),
    "exchange.bind-ok": (40, 31),
    "exchange.unbind": (40, 40),
    "exchange.unbind-ok": (40, 51),
    "connection.blocked": (10, 60),
    "connection.unblocked": (10, 61),
    "connection.update-secret": (10, 70),
    "connection.update-secret-ok": (10, 71),
}


class SpecTests(SynchronousTestCase):
    """What users of txamqp find in it."""

    def test_it_is_read_once(self) -> None:
        """Everybody shares the one."""
        self.assertIs(load(), load())

    def test_the_path_can_be_given_to_txamqp(self) -> None:
        """As programs of its users do."""
        self.assertEqual(txamqp_load(SPEC_PATH).klass.__name__, load().klass.__name__)

    def test_rabbitmqs_extensions_are_in_it(self) -> None:
        """Under the numbers that RabbitMQ has for them."""
        for name, (class_id, method_id) in EXTENSIONS.items():
            self.assertEqual(method_names()[class_id << 16 | method_id], name)

    def test_every_method_that_is_answered_knows_its_answers(self) -> None:
        """``x`` is answered by ``x-ok``, and ``basic.get`` by a message or none."""
        names = set(method_names().values())
        for method in methods().values():
            answers = {f"{method.klass.name}.{answer.name}" for answer in method.responses}
            expected = {f"{method.klass.name}.{method.name}-ok"} & names
            if method.klass.name == "basic" and method.name == "get":
                expected.add("basic.get-empty")
            self.assertEqual(answers, expected, method)

    def test_methods_with_content_are_the_four(self) -> None:
        """A message follows these alone."""
        content = {name for number, name in method_names().items() if methods()[number].content}
        self.assertEqual(content, {"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"})

    def test_a_wish_for_no_answer_is_spelt_as_txamqp_expects(self) -> None:
        """It waits for ever where the field has another name."""
        names = {field.name for method in methods().values() for field in method.fields}
        self.assertIn("nowait", names)
        self.assertNotIn("no-wait", names)

    def test_arguments_can_be_given_by_position(self) -> None:
        """In the order in which txamqp's own tests give them."""
        declare = load().classes.byname["exchange"].methods.byname["declare"]
        self.assertEqual(
            [field.name for field in declare.fields],
            [
                "ticket",
                "exchange",
                "type",
                "passive",
                "durable",
                "auto-delete",
                "internal",
                "nowait",
                "arguments",
            ],
        )

    def test_every_method_has_a_text(self) -> None:
        """It is what ``help(channel)`` shows; txamqp fails without."""
        for method in methods().values():
            self.assertTrue(method.docstring().strip(), method)

    def test_the_constants_are_those_of_the_protocol(self) -> None:
        """Frames' types, their end and their least size, and reply codes."""
        names = load().constants.bypyname
        for name, value in {
            "frame_method": 1,
            "frame_header": 2,
            "frame_body": 3,
            "frame_heartbeat": 8,
            "frame_end": 206,
            "frame_min_size": 4096,
            "reply_success": 200,
            "no_route": 312,
            "precondition_failed": 406,
            "internal_error": 541,
        }.items():
            self.assertEqual(names[name].id, value, name)
