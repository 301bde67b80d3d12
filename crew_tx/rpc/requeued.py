"""Dead calls that are sent once more under signing: what has no good signature is not given one."""

from __future__ import annotations

from hmac import compare_digest

from crew_tx.message import Call, Properties, dead_letter_from, signature_of, signed_properties
from crew_tx.rpc.digests import CALL_FIELDS, call_head, call_rest
from crew_tx.signing import STAMP_END, SigningKey, SigningKeys, altered
from crew_tx.topology import TASKS


def check_signed(call: Call, properties: Properties, keys: SigningKeys) -> None:
    """
    Verify a dead letter's signature; how old it is does not matter.

    :param call: the letter, read.
    :raises RefusedError: if it is not what one of the keys has signed.
    """
    signature = signature_of(properties)
    key = keys.key_of(signature)
    # The broker takes its expiration out, and writes it into the reason of its death.
    expiration = dead_letter_from(properties).expiration
    if "expiration" not in properties and expiration is not None:
        call = call._replace(expiration=round(expiration * 1000))
    made = _signature(call, key, str(signature)[:STAMP_END])
    if not compare_digest(made.encode(), str(signature).encode(errors="replace")):
        raise altered(key.id)


def signed_anew(call: Call, properties: Properties, keys: SigningKeys, now: float) -> Properties:
    """
    A call's properties with a signature.

    :param call: with its priority in the steps of the queue.
    """
    stamp, _ = keys.stamp(now)
    return signed_properties(properties, _signature(call, keys.signing, stamp))


def _signature(call: Call, key: SigningKey, stamp: str) -> str:
    head = call_head(len(stamp), TASKS, call.task_id, call.task_id, call[CALL_FIELDS])
    rest = call_rest(stamp.encode(), call.headers, call.call_id, call.body)
    return stamp + key.begin(head).ended(rest)
