"""Who may do what: tokens, what they stand for, and what was done with them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from farm.model.base import Model
from farm.model.words import Scope

PRINCIPAL = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,79}$"
"""A name stands for whoever has a token of it: what is theirs is theirs by it. Without a space it is no trigger's."""

COMMAND_LINE = "command line"
"""Whoever may start programs on the machine of the store is called so in the audit log."""


class Identity(Model):
    """Who asks."""

    name: str
    """Of the token; empty: nobody in particular."""
    scope: Scope | None
    """None: may do nothing."""
    token: str = ""
    """Its id."""

    def may(self, scope: Scope) -> bool:
        """Whether that is allowed."""
        return self.scope is not None and self.scope.includes(scope)


ANYONE = Identity(name="", scope=None)
"""Who has shown no token."""


class TokenRecord(Model):
    """A token, without its secret, which nobody has but its owner."""

    id: str
    name: str
    scope: Scope
    created: datetime
    created_by: str
    expires: datetime | None
    revoked: datetime | None
    used: datetime | None
    """When it was last used, to the minute."""


class AuditRecord(Model):
    """A change that somebody made."""

    id: int
    at: datetime
    actor: str
    action: str
    """`run.submit`, `token.revoke`."""
    target: str
    detail: dict[str, Any]
