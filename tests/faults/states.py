"""The named states of the chain at which a part of the node can be made to die, and where each of them is in the code.

Read by the launcher inside the part (tests/faults/launcher.py) and by the matrix, which crosses them with conditions.
A name that the code no longer has stops the launcher, so that no state is silently left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Part(StrEnum):
    """A process of the node, by the command that starts it."""

    NODE = "node"
    WORKER = "worker"
    DELIVERY = "delivery"


@dataclass(frozen=True)
class Call:
    """What was called, as the condition of a state sees it."""

    arguments: tuple[Any, ...]
    #: None before the call.
    result: Any


@dataclass(frozen=True)
class At:
    """Before or after a call of `function` of `owner` ("module" or "module:class")."""

    owner: str
    function: str
    after: bool = False
    #: Which calls count.
    when: Callable[[Call], bool] = lambda call: True


@dataclass(frozen=True)
class Commit:
    """Right before or right after the commit of a transaction that marks a row of `table` done, or adds one."""

    #: Name of the class in schemas.tables.
    table: str
    after: bool = False
    adds: bool = False


@dataclass(frozen=True)
class State:
    """One state of the chain."""

    name: str
    part: Part
    where: At | Commit
    #: Within a transaction: a part that is only frozen here holds the locks of the ledger, and everybody waits.
    locked: bool = field(default=False, kw_only=True)
    #: Reached again and again whatever is sent: the order to die is given when something has come in.
    by_itself: bool = field(default=False, kw_only=True)


def _claim_of(name: str) -> At:
    def claimed(call: Call) -> bool:
        return call.result is not None and call.result.table.__name__ == name

    return At("node.ledger.leases", "claim", after=True, when=claimed)


def _into_the_store(call: Call) -> bool:
    return "/objects/" in str(call.arguments[1]) and "/incoming/" not in str(call.arguments[1])


def _of_the_store(call: Call) -> bool:
    return "/objects/incoming/" in str(Path(f"/proc/self/fd/{call.arguments[0]}").readlink())


def _is_response(call: Call) -> bool:
    return bool(call.arguments[1].name == "P_DATA_TF")


def _is_assembly(call: Call) -> bool:
    # Pixels are read by the same processes.
    return bool(call.arguments[2].__name__ == "assemble")


def _request(method: str) -> Callable[[Call], bool]:
    return lambda call: call.arguments[1].method == method


STATES = [
    # Reception.
    State("receiving", Part.NODE, At("node.acceptor.incoming:IncomingObject", "write")),
    State("received", Part.NODE, At("node.intake.received:Reading", "finish")),
    State("before sync", Part.NODE, At("os", "fsync", when=_of_the_store)),
    State("before rename", Part.NODE, At("os", "rename", when=_into_the_store)),
    State("after rename", Part.NODE, At("os", "rename", after=True, when=_into_the_store)),
    State("before ledger commit", Part.NODE, Commit("Reception", adds=True), locked=True),
    State("after ledger commit", Part.NODE, Commit("Reception", after=True, adds=True)),
    State(
        "after the answer", Part.NODE, At("node.acceptor.connection:Connection", "write", after=True, when=_is_response)
    ),
    State("before publish", Part.NODE, At("celery:Celery", "send_task")),
    State("after publish", Part.NODE, At("celery:Celery", "send_task", after=True)),
    State("before release", Part.NODE, At("node.intake.reception:ReceptionDesk", "close_studies")),
    State("after release", Part.NODE, At("node.intake.reception:ReceptionDesk", "close_studies", after=True)),
    State(
        "in sweep", Part.NODE, At("node.ledger.leases", "give_up_abandoned", after=True), locked=True, by_itself=True
    ),
    # Inference and results.
    State("after claim of an image", Part.WORKER, _claim_of("Inference")),
    State("in inference", Part.WORKER, At("workers.engine:Engine", "run")),
    State("after inference", Part.WORKER, At("workers.engine:Engine", "run", after=True)),
    State("before inference commit", Part.WORKER, Commit("Inference"), locked=True),
    State("after inference commit", Part.WORKER, Commit("Inference", after=True)),
    State(
        "in planning",
        Part.WORKER,
        At("node.results.planning", "plan_results", after=True, when=lambda call: bool(call.result)),
        locked=True,
    ),
    State("after claim of a result", Part.WORKER, _claim_of("Result")),
    State("in building", Part.WORKER, At("workers.processes:Processes", "call_for", when=_is_assembly)),
    State("objects built", Part.WORKER, At("workers.processes:Processes", "call_for", after=True, when=_is_assembly)),
    State("before result commit", Part.WORKER, Commit("Result"), locked=True),
    State("after result commit", Part.WORKER, Commit("Result", after=True)),
    State("after claim of a picture", Part.WORKER, _claim_of("Picture")),
    State("before picture commit", Part.WORKER, Commit("Picture"), locked=True),
    # Delivery.
    State("after claim of a delivery", Part.DELIVERY, At("node.delivery.worker:Deliverer", "_hand_over")),
    State("before handing over", Part.DELIVERY, At("requests:Session", "send", when=_request("POST"))),
    State("after the PACS's answer", Part.DELIVERY, At("requests:Session", "send", after=True, when=_request("POST"))),
    State("before C-STORE to the PACS", Part.DELIVERY, At("pynetdicom.association:Association", "send_c_store")),
    State(
        "after the PACS's C-STORE answer",
        Part.DELIVERY,
        At("pynetdicom.association:Association", "send_c_store", after=True),
    ),
    State("before delivery commit", Part.DELIVERY, Commit("Delivery"), locked=True),
    State("after delivery commit", Part.DELIVERY, Commit("Delivery", after=True)),
    # Storage commitment: asked for by the delivery worker, reported to the receiver.
    State("before commitment request", Part.DELIVERY, At("pynetdicom.association:Association", "send_n_action")),
    State(
        "after commitment request", Part.DELIVERY, At("pynetdicom.association:Association", "send_n_action", after=True)
    ),
    State("in commitment report", Part.NODE, At("node.commitment.report", "record_report"), locked=True),
    State(
        "before commitment commit",
        Part.NODE,
        At("node.commitment.report", "record_report", after=True),
        locked=True,
    ),
]

BY_NAME = {state.name: state for state in STATES}
