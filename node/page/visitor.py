"""Who asks: the visitor of a request, and what each role may do. Routes name the role that they want."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from schemas.tables import Role


@dataclass(frozen=True)
class Visitor:
    """Somebody whose request is answered."""

    #: Account name; "" for this host without accounts.
    name: str
    role: Role
    #: What every request that changes something has to bring along.
    csrf_token: str
    #: Address that the request came from.
    address: str

    def may(self, role: Role) -> bool:
        """Whether the visitor's role includes `role`."""
        order = list(Role)
        return order.index(self.role) >= order.index(role)


def _visitor(request: Request) -> Visitor:
    return Visitor("", Role.ADMIN, "", request.client.host if request.client else "")


#: Parameters of routes: only visitors with (at least) that role get in.
Reader = Annotated[Visitor, Depends(_visitor)]
Operator = Annotated[Visitor, Depends(_visitor)]
Admin = Annotated[Visitor, Depends(_visitor)]
