"""Who may look at workers, and who may give them orders."""

from __future__ import annotations

import hmac
from secrets import token_urlsafe

from crew_tx.web.access import Principal
from crew_tx.web.problems import ProblemError

TOKEN = "Crew-Token"


class Operators:
    """
    Those of the credentials that may see workers.

    :param names: those of credentials.
    :param any_credential: whether there are credentials at all; without any,
        everybody who gets here may look, and nobody may give orders.
    :ivar token: what an order has to bring beside: a page of another site can
        have a browser send its password, but can't read this.
    """

    def __init__(self, names: tuple[str, ...], *, any_credential: bool) -> None:
        self._names = names
        self._any_credential = any_credential
        self.token = token_urlsafe(24)

    def check_look(self, principal: Principal) -> None:
        """:raises ProblemError: 403."""
        if self._any_credential and principal.name not in self._names:
            raise ProblemError(403, "only operators see workers; the gateway's --operator names them")

    def may_order(self, principal: Principal) -> bool:
        """Whether it may, with the token."""
        return self._any_credential and principal.name in self._names

    def check_order(self, principal: Principal, token: str | None) -> None:
        """:raises ProblemError: 403."""
        if not self.may_order(principal):
            raise ProblemError(
                403, "only operators give orders: start the gateway with --tokens or --users, and --operator"
            )
        if not hmac.compare_digest((token or "").encode(), self.token.encode()):
            raise ProblemError(
                403, f"an order has the overview's token in the header {TOKEN}; load the page anew"
            )
