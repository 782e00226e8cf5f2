"""`chexnode user`: the accounts of the page.

A password is typed or piped in; an argument could be seen by everybody on the host.
"""

import getpass
import os
import sys
from collections.abc import Callable

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from node.ledger.database import current_revision, head_revision, upgrade
from node.ledger.ledger import Ledger, open_ledger
from node.page import access_log, accounts
from node.page.words import clock
from schemas.account_tables import AccessEntry, Role
from schemas.errors import AccountError
from schemas.settings import load_settings

_ROLE = click.Choice([role.value for role in Role])
_ROLES = "reader: the worklist and its studies; operator: the checks, too; admin: the access log, too."
_password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it twice."
)


@click.group("user")
def user_group() -> None:
    """Accounts of the worklist page. Until there is one, the page answers only this host."""


@user_group.command("add")
@click.argument("name")
@click.option("--role", type=_ROLE, required=True, help=_ROLES)
@_password_stdin
def add_command(name: str, role: str, password_stdin: bool) -> None:
    """Make the account NAME. There is no default password."""
    ledger = _ledger()
    with ledger.read() as session:
        # Before a password is asked for.
        accounts.check_new_name(session, name)
        first = not accounts.accounts_exist(session)
    password_hash = accounts.hash_password(name, _password(password_stdin))
    _change(ledger, name, f"added as {role}", lambda session: accounts.add(session, name, password_hash, Role(role)))
    Console().print(f"{accounts.canonical(name)} may log in as {role}.")
    if first:
        Console().print(
            "From now on everybody logs in, on this host too. Other hosts need HTTPS (page.tls_certificate)."
        )


@user_group.command("list")
def list_command() -> None:
    """List the accounts with their roles and last logins."""
    with _ledger().read() as session:
        logins = select(AccessEntry.account, func.max(AccessEntry.at)).where(AccessEntry.action == "login")
        last = {name: at for name, at in session.execute(logins.group_by(AccessEntry.account))}  # noqa: C416
        table = Table("account", "role", "made", "last login")
        for account in accounts.every(session):
            table.add_row(account.name, account.role, clock(account.created_at), clock(last.get(account.name)))
    Console().print(table if table.rows else "There is no account: the page answers only this host.")


@user_group.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Remove the account NAME and log it out."""
    ledger = _ledger()
    _change(ledger, name, "removed", lambda session: accounts.remove(session, name))
    Console().print(f"{accounts.canonical(name)} is removed and logged out.")
    with ledger.read() as session:
        if not accounts.accounts_exist(session):
            Console().print("There is no account left: the page answers only this host, and there without a login.")


@user_group.command("password")
@click.argument("name")
@_password_stdin
def password_command(name: str, password_stdin: bool) -> None:
    """Give the account NAME a new password and log it out everywhere."""
    ledger = _ledger()
    with ledger.read() as session:
        accounts.existing(session, name)
    password_hash = accounts.hash_password(name, _password(password_stdin))
    _change(ledger, name, "password changed", lambda session: accounts.change_password(session, name, password_hash))
    Console().print(f"{accounts.canonical(name)} has a new password and is logged out.")


@user_group.command("role")
@click.argument("name")
@click.argument("role", type=_ROLE)
def role_command(name: str, role: str) -> None:
    """Give the account NAME another role and log it out everywhere."""
    _change(_ledger(), name, f"is {role} now", lambda session: accounts.change_role(session, name, Role(role)))
    Console().print(f"{accounts.canonical(name)} is {role} now and has to log in again.")


def _ledger() -> Ledger:
    """The ledger, made where there is none; one of another revision is left to `chexnode db upgrade`."""
    ledger = open_ledger(load_settings())
    revision = current_revision(ledger)
    if revision is None:
        upgrade(ledger)
    elif revision != head_revision():
        raise AccountError("The ledger is of another revision than this software: run chexnode db upgrade.")
    return ledger


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt="The same again")
    return password


def _change(ledger: Ledger, name: str, what: str, change: Callable[[Session], object]) -> None:
    """Make the change and write down in the access log who made it, in one transaction."""

    def logged(session: Session) -> None:
        change(session)
        detail = f"{what}, by {_operator()} on the command line"
        access_log.entry(session, accounts.canonical(name), "", "account", detail=detail)

    ledger.write(logged)


def _operator() -> str:
    """Who runs the command, as the operating system says."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"user {os.getuid()}"
