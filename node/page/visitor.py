"""Who asks: the visitor of a request, and what each role may do. Routes name the role that they want.

Who the visitor is, the gate decides before any route runs (node/page/security.py); a route without it answers nobody.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from schemas.account_tables import Role
from schemas.errors import LoginNeededError, NotAllowedError


@dataclass(frozen=True)
class Visitor:
    """Somebody whose request is answered."""

    #: Account name; "" for this host without accounts.
    name: str
    role: Role
    #: What every request that changes something has to bring along, in X-CSRF-Token or the form field csrf_token.
    csrf_token: str = field(repr=False)
    #: Address that the request came from.
    address: str
    #: SHA-256 of the session's cookie; "" for this host without accounts and for HTTP Basic.
    session: str = field(default="", repr=False)

    def may(self, role: Role) -> bool:
        """Whether the visitor's role includes `role`."""
        order = list(Role)
        return order.index(self.role) >= order.index(role)


def visitor_of(request: Request) -> Visitor | None:
    """The visitor whom the gate let in; None on pages for which nobody needs to log in."""
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    return visitor


def _at_least(role: Role) -> Callable[[Request], Awaitable[Visitor]]:
    async def admitted(request: Request) -> Visitor:
        visitor = visitor_of(request)
        if visitor is None:
            raise LoginNeededError
        if not visitor.may(role):
            raise NotAllowedError(f"It takes the role {role.value}.")
        return visitor

    return admitted


#: Parameters of routes: only visitors with (at least) that role get in.
Reader = Annotated[Visitor, Depends(_at_least(Role.READER))]
Operator = Annotated[Visitor, Depends(_at_least(Role.OPERATOR))]
Admin = Annotated[Visitor, Depends(_at_least(Role.ADMIN))]
