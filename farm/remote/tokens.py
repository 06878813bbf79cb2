"""The tokens of a server."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from farm.model import Scope, TokenRecord
from farm.remote.client import Client
from farm.remote.wire import Request, path_of

_DAY_S = 24 * 3600


@dataclass(frozen=True)
class RemoteTokens:
    """Tokens (`farm.cli.tokens`) of a server. Every method raises ServerError, and what the server raised."""

    client: Client

    def create(self, name: str, scope: Scope, lasts_s: float) -> tuple[TokenRecord, str]:
        """A new one, and its secret; it lasts for ever where that is 0."""
        body = {"name": name, "scope": scope, "days": lasts_s / _DAY_S if lasts_s else None}
        answer = self.client.wire.ask(Request("POST", "/tokens", json=body, repeatable=False))
        made = self.client.read(_NewToken, answer)
        return made.token, made.secret

    def all(self) -> tuple[TokenRecord, ...]:
        """All, the newest first."""
        return self.client.read(tuple[TokenRecord, ...], self.client.wire.ask(Request("GET", "/tokens")))

    def revoke(self, id_: str) -> None:
        """One is good for nothing from now on."""
        self.client.wire.ask(Request("DELETE", path_of("tokens", id_)))


class _NewToken(BaseModel):
    token: TokenRecord
    secret: str
