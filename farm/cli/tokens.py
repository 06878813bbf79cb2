"""`farm token`: who may use a server. On this machine's store, where the first token is made, or on a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.markup import escape
from rich.table import Table

from farm.cli.farms import Server, TokenFile, server_farm
from farm.cli.options import duration
from farm.cli.screen import err, out
from farm.config import load_settings
from farm.model import COMMAND_LINE, Scope, TokenRecord
from farm.store import Store
from farm.store.access import Access

token_app = typer.Typer(help="Tokens for the REST API and the pages.", no_args_is_help=True, rich_markup_mode=None)


class Tokens(Protocol):
    """The tokens of a farm. Every method raises FarmError."""

    def create(self, name: str, scope: Scope, lasts_s: float) -> tuple[TokenRecord, str]:
        """A new one, and its secret; it lasts for ever where that is 0."""

    def all(self) -> tuple[TokenRecord, ...]:
        """All, the newest first."""

    def revoke(self, id_: str) -> None:
        """One is good for nothing from now on."""


@dataclass(frozen=True)
class _Here:
    """Tokens of a store."""

    access: Access

    def create(self, name: str, scope: Scope, lasts_s: float) -> tuple[TokenRecord, str]:
        """As Tokens."""
        now = datetime.now(UTC)
        expires = now + timedelta(seconds=lasts_s) if lasts_s else None
        return self.access.create_token(name, scope, by=COMMAND_LINE, now=now, expires=expires)

    def all(self) -> tuple[TokenRecord, ...]:
        """As Tokens."""
        return self.access.tokens()

    def revoke(self, id_: str) -> None:
        """As Tokens."""
        self.access.revoke_token(id_, by=COMMAND_LINE, now=datetime.now(UTC))


@contextmanager
def _tokens(server: str, token_file: Path | None) -> Iterator[Tokens]:
    if server:
        with server_farm(server, token_file) as farm:
            yield farm.tokens
    else:
        settings = load_settings()
        with closing(Store.open(settings.database, settings.state)) as store:
            yield _Here(Access(store.engine))


@token_app.command("create")
def token_create(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; runs and the audit log name it.")],
    scope: Annotated[Scope, typer.Option(help="What it is good for; each includes those before it.")] = Scope.SUBMIT,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="After which it is good for nothing (90d); 0: never.")
    ] = "0",
    server: Server = "",
    token_file: TokenFile = None,
) -> None:
    """Create a token and print its secret, which is kept nowhere."""
    with _tokens(server, token_file) as tokens:
        token, secret = tokens.create(name, scope, duration(expires))
    err.print(f"token {token.id} of {escape(name)}, scope {scope}; this is the only time that it is shown:")
    typer.echo(secret)


@token_app.command("list")
def token_list(*, server: Server = "", token_file: TokenFile = None) -> None:
    """List the tokens, also those that are good for nothing any more."""
    table = Table("id", "name", "scope", "created", "expires", "last used", "state", box=None, pad_edge=False)
    now = datetime.now(UTC)
    with _tokens(server, token_file) as tokens:
        found = tokens.all()
    for token in found:
        gone = "revoked" if token.revoked else "expired" if token.expires and token.expires < now else "good"
        times = (f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (token.created, token.expires, token.used))
        table.add_row(token.id, escape(token.name), token.scope, *times, gone)
    out.print(table)


@token_app.command("revoke")
def token_revoke(
    *,
    token: Annotated[str, typer.Argument(metavar="ID", help="Its id: `farm token list`.")],
    server: Server = "",
    token_file: TokenFile = None,
) -> None:
    """Have a token good for nothing from now on."""
    with _tokens(server, token_file) as tokens:
        tokens.revoke(token)
