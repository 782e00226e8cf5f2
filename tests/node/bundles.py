"""Bundles in the registry, without files: reception, routing and planning need no more."""

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from node.bundles.activation import activate, retire
from node.bundles.registry import ActiveBundle, active_bundles
from node.ledger.ledger import Ledger, now
from schemas.bundle import Manifest, Population, bundle_folder, read_manifest
from schemas.tables import Bundle

ADULTS = Population(minimum_age_years=18)


def manifest(name: str = "bundle", version: str = "1", population: Population = ADULTS) -> Manifest:
    shipped = read_manifest(bundle_folder(None))
    return shipped.model_copy(update={"name": name, "version": version, "population": population})


def registered(ledger: Ledger, name: str = "bundle", version: str = "1", population: Population = ADULTS) -> str:
    """Register a bundle; returns its digest."""
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()

    def change(session: Session) -> None:
        if session.scalar(select(Bundle.id).where(Bundle.digest == digest)) is None:
            document = manifest(name, version, population).model_dump_json()
            session.add(Bundle(digest=digest, name=name, version=version, manifest=document, registered_at=now()))

    ledger.write(change)
    return digest


def activated(ledger: Ledger, name: str = "bundle", version: str = "1", population: Population = ADULTS) -> str:
    """Register and activate a bundle; returns its digest."""
    digest = registered(ledger, name, version, population)
    ledger.write(lambda session: activate(session, digest))
    return digest


def retired(ledger: Ledger, name: str) -> None:
    ledger.write(lambda session: retire(session, name))


def active(ledger: Ledger) -> list[ActiveBundle]:
    with ledger.read() as session:
        return active_bundles(session)
