"""What a client signs: calls, cancels and commands. Each remembers the signatures that it went out with."""

from __future__ import annotations

from collections.abc import Callable

from crew_tx.amqp.properties import encode_properties
from crew_tx.codec import Encoded
from crew_tx.message import Properties, signed_properties
from crew_tx.rpc.digests import cancel_head, command_head, told_rest
from crew_tx.rpc.outgoing import Outgoing
from crew_tx.rpc.pending import PendingCall
from crew_tx.rpc.plan import CallPlan
from crew_tx.signing import SigningKeys
from crew_tx.topology import CONTROL, WORKERS

#: Of a call that is sent again and again, the last so many signatures may be answered.
_MOST_SIGNATURES = 8


class Signer:
    """
    :param seconds: reads the clock: seconds since 1970.
    """

    def __init__(self, keys: SigningKeys, seconds: Callable[[], float]) -> None:
        self._keys = keys
        self._seconds = seconds

    def call(self, message: Outgoing, plan: CallPlan, encoded: Encoded, digest: bytes | None = None) -> bytes:
        """
        The properties of a call that goes out for the first time.

        :param digest: of its body, where that is large and was made in a thread.
        """
        properties, signature = plan.signed(encoded, message.message_id, self._keys, self._seconds(), digest)
        message.signatures = (signature,)
        return properties

    def again(self, call: PendingCall, left: float) -> bytes:
        """
        The properties of a call that goes out again, or to be answered elsewhere.

        :param left: the seconds that it may still wait.
        """
        plan: CallPlan = call.plan
        properties, signature = plan.signed_again(
            call.encoded, call.message_id, call.attempt, left, self._keys, self._seconds()
        )
        call.signatures = (*call.signatures, signature)[-_MOST_SIGNATURES:]
        return properties

    def cancel(self, properties: Properties, task_id: str) -> bytes:
        """A cancel's properties."""
        head = cancel_head(self._keys.stamp_size, WORKERS, task_id, properties["reply_to"])
        return encode_properties(self._signed(head, properties, b"")[0])

    def command(self, properties: Properties, routing_key: str, body: bytes) -> tuple[Properties, bytes]:
        """A command's properties, and its signature."""
        return self._signed(
            command_head(self._keys.stamp_size, CONTROL, routing_key, properties), properties, body
        )

    def _signed(self, head: bytes, properties: Properties, body: bytes) -> tuple[Properties, bytes]:
        stamp, octets = self._keys.stamp(self._seconds())
        rest = told_rest(octets, properties["correlation_id"], body)
        signature = stamp + self._keys.signing.begin(head).ended(rest)
        return signed_properties(properties, signature), signature.encode()
