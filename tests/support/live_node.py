"""A node as its users run it: processes started by the `chexnode` command, observed through ledger and peers."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from node.monitoring.presence import present_processes
from node.network.send import Sent, send_files
from schemas.tables import Delivery, Result, StoredObject, Study, WorkState
from tests.support.processes import Running, free_port, wait_for

CALLING = "TESTSCU"


class LiveNode:
    """One home folder with its settings; parts are started and killed one by one.

    Parameters
    ----------
    ledger_url, broker_url
        Empty for the embedded mode.
    destinations
        TOML text of [[destinations]] tables.
    """

    def __init__(self, home: Path, ledger_url: str, broker_url: str, destinations: str, extra: str = "") -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.page_port = free_port()
        self.page_url = f"http://127.0.0.1:{self.page_port}"
        self.settings = home / "chexnode.toml"
        self.settings.write_text(
            f'home = "{home}"\nledger_url = "{ledger_url}"\nbroker_url = "{broker_url}"\n'
            f'[dicom]\nport = {self.port}\ncalling_ae_titles = ["{CALLING}"]\n'
            f"[page]\nport = {self.page_port}\n"
            "[work]\nlease_seconds = 3\nsweep_seconds = 0.2\n"
            f"{extra}\n{destinations}\n"
        )
        self.ledger = Ledger(ledger_url or f"sqlite:///{home}/ledger.db")
        upgrade(self.ledger)
        self.running: list[Running] = []

    def start(self, *parts: str) -> list[Running]:
        """Start parts (node, page, worker, delivery) and wait until each is present."""
        started = [self.launch([sys.executable, "-m", "schemas.command_line", part], part) for part in parts]
        self.wait_present(started, parts)
        return started

    def launch(self, command: Sequence[str | Path], name: str) -> Running:
        """Start a command of this node in its environment."""
        running = Running(command, self.home / f"{name}.log", {"CHEXNODE_SETTINGS": str(self.settings)})
        self.running.append(running)
        return running

    def wait_present(self, started: Sequence[Running], parts: Sequence[str]) -> None:
        """Wait until each of the processes (or a child of it) is listed in the ledger."""

        def present() -> bool:
            for running in started:
                assert running.alive, running.output[-4000:]
            with self.ledger.read() as session:
                listed = {(each.role, each.process_id) for each in present_processes(session)}
            return all((part, each.process.pid) in listed for part, each in zip(parts, started, strict=True))

        wait_for(f"{', '.join(parts)} present", present, 120)

    def send(self, *files: Path) -> list[Sent]:
        return send_files(files, "127.0.0.1", self.port, "CHEXNODE", CALLING)

    def wait_delivered(self, study_instance_uid: str, version: int = 1, seconds: float = 60) -> list[StoredObject]:
        """The objects of the study's result version, once everything that there is to deliver is delivered."""

        def delivered() -> list[StoredObject] | None:
            with self.ledger.read() as session:
                rows = session.execute(
                    select(Delivery, StoredObject)
                    .join(StoredObject, Delivery.object_id == StoredObject.id)
                    .join(Result, StoredObject.result_id == Result.id)
                    .join(Study, Result.study_id == Study.id)
                    .where(Study.study_instance_uid == study_instance_uid, Result.version == version)
                ).all()
            if rows and all(delivery.state == WorkState.DONE for delivery, _ in rows):
                return [stored for _, stored in rows]
            return None

        objects = wait_for(f"result {version} of {study_instance_uid} delivered", delivered, seconds)
        assert objects
        return objects

    def stop(self) -> None:
        for running in self.running:
            if running.alive:
                running.process.terminate()
        for running in self.running:
            running.stop()
        self.ledger.close()


def orthanc_destination(url: str, objects: str = '["segmentation", "report"]', name: str = "pacs") -> str:
    return f'[[destinations]]\nname = "{name}"\nkind = "orthanc"\nurl = "{url}"\nobjects = {objects}\n'
