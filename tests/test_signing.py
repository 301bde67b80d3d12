"""Signing keys, signatures, and the memory of those that were seen."""

from __future__ import annotations

import hmac
import pickle
from base64 import b64encode
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import ConfigurationError
from crew_tx.signing import (
    WINDOW,
    RefusedError,
    SeenSignatures,
    SigningKey,
    SigningKeys,
    check_fresh,
)

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = bytes(range(32))
TEXT = b64encode(SECRET).decode()


class SigningKeyTests(SynchronousTestCase):
    """One key."""

    def test_it_makes_an_hmac(self) -> None:
        """As Python's own does, whatever the secret's length."""
        for size in (32, 63, 64, 65, 200):
            secret = bytes(range(size))
            made = hmac.digest(secret, b"message", "sha256").hex()
            begun = SigningKey("k", secret).begin(b"mess")
            # As often as it is asked for.
            self.assertEqual([made, made], [begun.ended(b"age"), begun.ended(b"age")])
            self.assertEqual(made, SigningKey("k", secret).begin(b"").ended(b"message"))


class SigningKeysTests(SynchronousTestCase):
    """Several."""

    def refused(self, text: str) -> str:
        """Why a file's text is refused; the secret is never told."""
        error = self.assertRaises(ConfigurationError, SigningKeys.parse, text, "the file f")
        self.assertNotIn(TEXT[:8], str(error))
        return str(error)

    def test_the_first_of_a_file_signs(self) -> None:
        """All verify; what is empty or a comment is passed over."""
        text = f"# ours\n\nnew = {TEXT}\n  old={b64encode(OTHER).decode()}  \n"
        keys = SigningKeys.parse(text)
        self.assertEqual(["new", "old"], keys.ids)
        self.assertEqual("new", keys.signing.id)
        self.assertEqual("<SigningKeys new (signs), old>", repr(keys))

    def test_another_can_sign(self) -> None:
        """Where there is one of that id."""
        self.assertEqual("b", SigningKeys({"a": SECRET, "b": OTHER}, signs="b").signing.id)
        self.assertRaises(ConfigurationError, SigningKeys, {"a": SECRET}, "c")

    def test_what_is_wrong_in_a_file_is_named(self) -> None:
        """By its line."""
        self.assertIn("there is no signing key", self.refused("# nothing\n"))
        self.assertIn("the file f, line 2: takes KEY-ID = SECRET", self.refused(f"\n{TEXT[:-1]}"))
        self.assertIn("line 1: what stands behind the = is not Base64", self.refused("k = \xe9"))
        self.assertIn("line 1: the secret of the signing key 'k'", self.refused(f"k = {TEXT[:40]}"))
        self.assertIn("line 1: the id of a signing key", self.refused(f"k k = {TEXT}"))
        self.assertIn("line 2: the signing key 'k' is there", self.refused(f"k = {TEXT}\nk = {TEXT}"))

    def test_a_file_is_read(self) -> None:
        """Or it is said why it can't be."""
        path = Path(self.mktemp())
        path.write_text(f"k = {TEXT}\n")
        self.assertEqual(["k"], SigningKeys.from_file(str(path)).ids)
        path.write_bytes(b"k = \xff")
        self.assertIn(
            "not ASCII", str(self.assertRaises(ConfigurationError, SigningKeys.from_file, str(path)))
        )
        path.unlink()
        self.assertIn(
            "can't be read", str(self.assertRaises(ConfigurationError, SigningKeys.from_file, str(path)))
        )

    def test_a_secret_is_nowhere_to_be_read(self) -> None:
        """Nor are keys pickled."""
        keys = SigningKeys({"k": SECRET})
        for text in (repr(keys), str(keys), repr(keys.signing), repr([keys])):
            self.assertNotIn(SECRET.decode(), text)
        self.assertRaises(TypeError, pickle.dumps, keys)

    def test_every_signature_has_one_length(self) -> None:
        """Whenever it is made, until the year 2286."""
        keys = SigningKeys({"key.1": SECRET})
        for now in (0.0, 1.5, 1_764_000_000.123, 9_999_999_999.9):
            stamp, octets = keys.stamp(now)
            self.assertEqual(f"key.1 {int(now * 1000):013d} ", stamp)
            self.assertEqual((stamp.encode(), keys.stamp_size), (octets, len(stamp)))
            self.assertEqual(keys.size, len(stamp + keys.signing.begin(b"x").ended(b"")))
        self.assertIs(keys.stamp(2.0), keys.stamp(2.0001))
        # A clock may be set back.
        for now, milliseconds in ((2.25, 2250), (1.5, 1500)):
            self.assertEqual(f"key.1 {milliseconds:013d} ", keys.stamp(now)[0])

    def test_a_signature_names_its_key(self) -> None:
        """What names none that is here is refused, whatever it is."""
        keys = SigningKeys({"k": SECRET, "old": OTHER})
        for key_id in keys.ids:
            self.assertEqual(key_id, keys.key_of(f"{key_id} {0:013d} {'0' * 64}").id)
        unknown = f"other {7:013d} {'0' * 64}"
        reasons = {
            None: "unsigned",
            unknown: "unknown-key",
            "": "tampered",
            "k": "tampered",
            b"k": "tampered",
            7: "tampered",
            unknown + "\n": "tampered",
        }
        for signature, reason in reasons.items():
            error = self.assertRaises(RefusedError, keys.key_of, signature)
            self.assertEqual(reason, error.reason, signature)
        for signature in ([], {}, ["k"]):
            self.assertRaises(RefusedError, keys.key_of, signature)
        self.assertEqual("other 0000000000007 ", self.assertRaises(RefusedError, keys.key_of, unknown).stamp)

    def test_a_reply_has_no_time_in_its_signature(self) -> None:
        """Nor is one with a time a reply's."""
        keys = SigningKeys({"k": SECRET})
        signature = keys.signing.reply_signature("0" * 64)
        self.assertEqual("k " + "0" * 64, signature)
        self.assertEqual("k", keys.key_of_reply(signature).id)
        for odd, reason in {
            None: "unsigned",
            "other " + "0" * 64: "unknown-key",
            f"k {7:013d} " + "0" * 64: "tampered",
            "k-" + "0" * 64: "tampered",
            "": "tampered",
            7: "tampered",
        }.items():
            error = self.assertRaises(RefusedError, keys.key_of_reply, odd)
            self.assertEqual((reason, ""), (error.reason, error.stamp), odd)


class FreshTests(SynchronousTestCase):
    """A message is fresh from the window before it was signed until its life and the window are over."""

    def test_both_ends_count(self) -> None:
        """To the second."""
        signature = f"k {1_000_000:013d} {'0' * 64}"
        for now in (1000 - WINDOW, 1000, 1060 + WINDOW):
            self.assertEqual(1060 + WINDOW, check_fresh(signature, 60, now))
        for now in (1000 - WINDOW - 1, 1060 + WINDOW + 1):
            error = self.assertRaises(RefusedError, check_fresh, signature, 60, now)
            self.assertEqual(("expired", signature.encode()), (error.reason, error.reference))


class SeenSignaturesTests(SynchronousTestCase):
    """What was seen."""

    def test_it_is_new_once(self) -> None:
        """For as long as it is fresh, and after that it is forgotten."""
        seen = SeenSignatures()
        self.assertEqual([True, False, True], [seen.add(each, 10, 1) for each in (b"a", b"a", b"b")])
        seen.add(b"c", 20, 11)
        self.assertEqual(1, len(seen))
        self.assertEqual(0, seen.forgotten)

    def test_the_oldest_give_way(self) -> None:
        """That is counted, since they can be replayed."""
        seen = SeenSignatures(most=3)
        for number in range(5):
            seen.add(bytes([number]), 100, 1)
        self.assertEqual((3, 2), (len(seen), seen.forgotten))
        self.assertFalse(seen.add(bytes([4]), 100, 1))
        self.assertTrue(seen.add(bytes([0]), 100, 1))

    def test_many_give_way_at_once(self) -> None:
        """What is stale among them is not counted, nor missed."""
        seen = SeenSignatures(most=100)
        for number in range(101):
            seen.add(bytes([number]), 10 if number < 4 else 100, 1)
        self.assertEqual((91, 10), (len(seen), seen.forgotten))
        for number in range(10):
            seen.add(bytes([number]), 100, 11)
        self.assertEqual((91, 20), (len(seen), seen.forgotten))
        self.assertFalse(seen.add(bytes([100]), 100, 11))
        seen.add(b"late", 300, 200)
        self.assertEqual((1, 20), (len(seen), seen.forgotten))
