"""Several hosts on one ledger and one broker: each with a home of its own, objects over HTTP, nothing shared."""

import sys
from collections.abc import Sequence
from pathlib import Path

from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from node.monitoring.presence import present_processes
from node.network.send import Sent, send_files
from tests.support.live_node import CALLING
from tests.support.processes import Running, free_port, wait_for

_SECRET = "a secret that only these hosts have, and no other"


class Site:
    """One host with its settings and the parts that run there (node and store, worker, or delivery)."""

    def __init__(self, home: Path, settings: str, parts: Sequence[str], port: int = 0) -> None:
        self.home = home
        home.mkdir(parents=True)
        self.port = port
        self._parts = parts
        self._settings = home / "chexnode.toml"
        (home / "secret").write_text(_SECRET)
        self._settings.write_text(settings)
        self.running: list[Running] = []

    def start(self) -> None:
        """Start the parts, without waiting for them."""
        command = [sys.executable, "-m", "schemas.command_line"]
        environment = {"CHEXNODE_SETTINGS": str(self._settings)}
        self.running = [Running([*command, part], self.home / f"{part}.log", environment) for part in self._parts]

    def stop(self) -> None:
        for running in self.running:
            if running.alive:
                running.process.terminate()
        for running in self.running:
            running.stop()

    def restart(self) -> None:
        """As an administrator does: stop in order, start again."""
        self.stop()
        self.start()

    def send(self, *files: Path) -> list[Sent]:
        return send_files(files, "127.0.0.1", self.port, "CHEXNODE", CALLING)


class Cluster:
    """`nodes` receivers with their stores, `workers` inference workers and a delivery worker that writes to `out`."""

    def __init__(self, folder: Path, ledger_url: str, broker_url: str, nodes: int, workers: int) -> None:
        self.ledger = Ledger(ledger_url)
        upgrade(self.ledger)
        self.out = folder / "out"
        stores = [free_port() for _ in range(nodes)]
        urls = [f"http://127.0.0.1:{port}" for port in stores]

        def settings(home: Path, others: Sequence[str], store: str = "", more: str = "") -> str:
            return (
                f'home = "{home}"\nledger_url = "{ledger_url}"\nbroker_url = "{broker_url}"\n'
                f'store_urls = "{", ".join(others)}"\n'
                f'[store]\nsecret_file = "{home / "secret"}"\n{store}'
                f"[work]\nlease_seconds = 3\nsweep_seconds = 0.2\n{more}"
                f'[[destinations]]\nname = "out"\nkind = "folder"\npath = "{self.out}"\n'
            )

        self.nodes = []
        for number, store_port in enumerate(stores):
            home, port = folder / f"node{number}", free_port()
            text = settings(
                home,
                [url for url in urls if not url.endswith(f":{store_port}")],
                f'host = "127.0.0.1"\nport = {store_port}\n',
                f'[dicom]\nport = {port}\ncalling_ae_titles = ["{CALLING}"]\n',
            )
            self.nodes.append(Site(home, text, ["node", "store"], port))
        small = "[worker]\nprocesses = 1\nthreads = 2\n"
        self.workers = [
            Site(home, settings(home, urls, more=small), ["worker"])
            for home in (folder / f"worker{number}" for number in range(workers))
        ]
        self.delivery = Site(folder / "delivery", settings(folder / "delivery", urls), ["delivery"])
        self.sites = [*self.nodes, *self.workers, self.delivery]

    def start(self) -> None:
        """Start every host and wait until all parts are present."""
        for site in self.sites:
            site.start()
        self.wait_present()

    def wait_present(self) -> None:
        started = [running for site in self.sites for running in site.running]

        def present() -> bool:
            for running in started:
                assert running.alive, running.output[-4000:]
            with self.ledger.read() as session:
                listed = {each.process_id for each in present_processes(session)}
            return all(each.process.pid in listed for each in started)

        wait_for("every part is present", present, 180)

    def stop(self) -> None:
        for site in self.sites:
            for running in site.running:
                if running.alive:
                    running.process.terminate()
        for site in self.sites:
            site.stop()
        self.ledger.close()
