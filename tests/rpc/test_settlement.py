"""Acks: as few as can be, never one too many."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.rpc.settlement import Settlements


class Broker:
    """Stands for a channel: knows which tags are unsettled, as a broker does, and minds."""

    def __init__(self, count: int) -> None:
        self.unsettled = set(range(1, count + 1))
        self.acked: set[int] = set()
        self.frames = 0

    def ack(self, tag: int, multiple: bool = False) -> None:
        assert tag in self.unsettled, f"unknown delivery tag {tag}"
        settled = {other for other in self.unsettled if other <= tag} if multiple else {tag}
        self.unsettled -= settled
        self.acked |= settled
        self.frames += 1

    def nack(self, tag: int, requeue: bool) -> None:
        assert tag in self.unsettled, f"unknown delivery tag {tag}"
        self.unsettled.discard(tag)


def taken(count: int) -> tuple[Broker, Settlements]:
    broker = Broker(count)
    settlements = Settlements(broker)  # type: ignore[arg-type]
    for tag in range(1, count + 1):
        settlements.taken(tag)
    return broker, settlements


class SettlementTests(SynchronousTestCase):
    def test_by_itself_an_ack_goes_out_at_once(self) -> None:
        """Outside a block nothing is held back."""
        broker, settlements = taken(3)
        settlements.ack(2)
        self.assertEqual((broker.acked, broker.frames), ({2}, 1))

    def test_together_without_a_gap_one_ack_serves_for_all(self) -> None:
        """Whatever their order was, and not before the end of the block."""
        broker, settlements = taken(5)
        with settlements.together():
            for tag in (2, 1, 3, 4):
                settlements.ack(tag)
            self.assertEqual(broker.frames, 0)
        self.assertEqual((broker.acked, broker.frames), ({1, 2, 3, 4}, 1))

    def test_behind_a_gap_each_has_its_own(self) -> None:
        """What is not answered stays unsettled."""
        broker, settlements = taken(5)
        with settlements.together():
            for tag in (1, 2, 4, 5):
                settlements.ack(tag)
        self.assertEqual((broker.unsettled, broker.frames), ({3}, 3))

    def test_acks_leave_although_the_block_fails(self) -> None:
        """An error of one must not cost the others their settlement."""
        broker, settlements = taken(2)
        with self.assertRaises(ZeroDivisionError), settlements.together():
            settlements.ack(1)
            raise ZeroDivisionError
        self.assertEqual(broker.acked, {1})

    def test_what_was_handed_back_is_not_acked(self) -> None:
        """The broker does not know a tag any more that was settled otherwise."""
        broker, settlements = taken(3)
        settlements.nack(2, requeue=True)
        settlements.nack(3, requeue=True)
        with settlements.together():
            settlements.ack(1)
        self.assertEqual((broker.acked, broker.unsettled), ({1}, set()))

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_whatever_the_order_each_is_settled_once_and_as_it_should(self, data: st.DataObject) -> None:
        """Random batches of acks and nacks: the broker never minds, and has what was meant."""
        count = data.draw(st.integers(1, 20))
        broker, settlements = taken(count)
        order = data.draw(st.permutations(range(1, count + 1)))
        expected: set[int] = set()
        while order:
            size = data.draw(st.integers(1, 5))
            group, order = order[:size], order[size:]
            if data.draw(st.booleans()):
                with settlements.together():
                    for member in group:
                        settlements.ack(member)
                expected |= set(group)
            else:
                for member in group:
                    settlements.nack(member, requeue=False)
            self.assertEqual(broker.acked, expected)
        self.assertEqual(broker.unsettled, set())
