"""A row in every table of a ledger, whatever its revision: for tests of what must leave nothing behind."""

import re
from typing import Any

from sqlalchemy import Boolean, Column, Double, Engine, Integer, LargeBinary, MetaData, Table, func, insert, select

from node.ledger.ledger import Ledger

_ALLOWED = re.compile(r"'((?:[^']|'')*)'")


def fill_empty_tables(ledger: Ledger) -> None:
    """Give each table without rows one row that satisfies its constraints and refers to the rows of the others."""
    tables = reflected(ledger.engine)
    with ledger.engine.begin() as connection:
        for table in tables.sorted_tables:
            if not connection.scalar(select(func.count()).select_from(table)):
                connection.execute(insert(table).values({each.name: _value(each, table) for each in table.columns}))


def row_counts(ledger: Ledger) -> dict[str, int]:
    """Rows per table."""
    with ledger.engine.connect() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in reflected(ledger.engine).sorted_tables
        }


def contents(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Every value of every row, per table."""
    with ledger.engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in reflected(ledger.engine).sorted_tables
        }


def reflected(engine: Engine) -> MetaData:
    """The tables as they are in the database, without Alembic's own."""
    metadata = MetaData()
    metadata.reflect(engine)
    if "alembic_version" in metadata.tables:
        metadata.remove(metadata.tables["alembic_version"])
    return metadata


def _value(column: Column[Any], table: Table) -> object:
    if column.primary_key or column.foreign_keys:
        return 1
    for constraint in table.constraints:
        text = str(getattr(constraint, "sqltext", ""))
        if column.name in re.split(r"\W+", text) and (allowed := _ALLOWED.findall(text)):
            return allowed[0]
    if isinstance(column.type, Boolean):
        return True
    if isinstance(column.type, Integer):
        return 1
    if isinstance(column.type, Double):
        return 1.5
    if isinstance(column.type, LargeBinary):
        return b"\0"
    length = getattr(column.type, "length", None) or 64
    return f"山田 {column.name}"[:length]
