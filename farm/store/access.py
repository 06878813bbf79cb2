"""Tokens, the sessions of browsers, and the audit log. Secrets are kept as hashes only."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Engine, and_, delete, insert, or_, select, update

from farm.errors import ConfigError, HostError, NotFoundError
from farm.model import AuditRecord, Identity, Scope, TokenRecord
from farm.model.access import PRINCIPAL
from farm.store import tables as t
from farm.store.audit import write
from farm.store.database import reading, writing
from farm.store.events import text_of

_PREFIX = "farm"
_RESERVED = frozenset({"anonymous"})
"""Who has shown no token is called so."""
_NOTED_EVERY = timedelta(minutes=1)
_RECENT = timedelta(seconds=1)
_MOST_RECENT = 1000
_COLUMNS = tuple(column for column in t.tokens.c if column is not t.tokens.c.hash)


class _Known(NamedTuple):
    """Whom a secret was found to be of."""

    identity: Identity
    until: datetime
    """Then it is to be looked up again."""


class Access:
    """Who may do what. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recent: dict[str, _Known] = {}

    # --- tokens -------------------------------------------------------------------------------------

    def create_token(
        self, name: str, scope: Scope, *, by: str, now: datetime, expires: datetime | None = None
    ) -> tuple[TokenRecord, str]:
        """A new token and its secret, which is told only here: `farm_<id>_<secret>`. Raises ConfigError."""
        _check_name(name)
        id_, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        text = f"{_PREFIX}_{id_}_{secret}"
        row = {
            "id": id_,
            "name": name,
            "hash": _hash(text),
            "scope": scope,
            "created": text_of(now),
            "created_by": by,
            "expires": text_of(expires) if expires else None,
        }
        with writing(self._engine, "store the token") as db:
            db.execute(insert(t.tokens), row)
            detail = {"name": name, "scope": scope, "expires": row["expires"]}
            write(db, by, "token.create", id_, detail, now=now)
        return self._token(id_), text

    def tokens(self) -> tuple[TokenRecord, ...]:
        """All of them, the newest first."""
        with reading(self._engine, "read the tokens") as db:
            rows = db.execute(select(*_COLUMNS).order_by(t.tokens.c.created.desc())).mappings()
            return tuple(TokenRecord.model_validate(dict(row)) for row in rows)

    def revoke_token(self, id_: str, *, by: str, now: datetime) -> None:
        """A token is good for nothing from now on, and its sessions end. Raises NotFoundError."""
        self._token(id_)
        with writing(self._engine, f"revoke the token {id_}") as db:
            mine = and_(t.tokens.c.id == id_, t.tokens.c.revoked.is_(None))
            db.execute(update(t.tokens).where(mine).values(revoked=text_of(now)))
            db.execute(delete(t.sessions).where(t.sessions.c.token == id_))
            write(db, by, "token.revoke", id_, {}, now=now)
        self._recent.clear()

    def recent(self, secret: str, *, now: datetime) -> Identity | None:
        """Who has this secret, where that was looked up within the last second; does not wait for the database.

        A token that another process revokes is good for this long.
        """
        known = self._recent.get(_hash(secret))
        return known.identity if known and now < known.until else None

    def identify(self, secret: str, *, now: datetime) -> Identity | None:
        """Who has this secret; None where it is of no token that is good now."""
        with reading(self._engine, "check a token") as db:
            row = db.execute(select(*_COLUMNS).where(t.tokens.c.hash == _hash(secret), _good(now))).mappings().first()
        if row is None:
            return None
        found = self._identity(dict(row), now)
        until = now + _RECENT
        if len(self._recent) >= _MOST_RECENT:
            self._recent.clear()
        expires = datetime.fromisoformat(row["expires"]) if row["expires"] else until
        self._recent[_hash(secret)] = _Known(found, min(until, expires))
        return found

    # --- sessions -----------------------------------------------------------------------------------

    def open_session(self, identity: Identity, *, now: datetime, lasts: timedelta) -> str:
        """The secret of a browser's session, for somebody who has shown a token."""
        secret = secrets.token_urlsafe(32)
        with writing(self._engine, "open a session") as db:
            db.execute(delete(t.sessions).where(t.sessions.c.expires < text_of(now)))
            row = {"hash": _hash(secret), "token": identity.token, "expires": text_of(now + lasts)}
            db.execute(insert(t.sessions), row)
        return secret

    def session(self, secret: str, *, now: datetime) -> Identity | None:
        """Whose session it is; None where there is none any more, or its token is no longer good."""
        good = and_(t.sessions.c.hash == _hash(secret), t.sessions.c.expires > text_of(now), _good(now))
        with reading(self._engine, "check a session") as db:
            row = db.execute(select(*_COLUMNS).join(t.sessions).where(good)).mappings().first()
        return self._identity(dict(row), now) if row else None

    def close_session(self, secret: str) -> None:
        """A session ends; nothing happens where there is none."""
        with writing(self._engine, "close a session") as db:
            db.execute(delete(t.sessions).where(t.sessions.c.hash == _hash(secret)))

    # --- audit --------------------------------------------------------------------------------------

    def note(self, actor: str, action: str, target: str, detail: Mapping[str, Any], *, now: datetime) -> None:
        """Somebody has changed something."""
        with writing(self._engine, "write the audit log") as db:
            write(db, actor, action, target, detail, now=now)

    def audit(self, *, before: int | None = None, limit: int = 100) -> tuple[AuditRecord, ...]:
        """What was changed, the newest first; `before` is the last of the page before."""
        query = select(t.audit).order_by(t.audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(t.audit.c.id < before)
        with reading(self._engine, "read the audit log") as db:
            return tuple(AuditRecord.model_validate(dict(row)) for row in db.execute(query).mappings())

    # ------------------------------------------------------------------------------------------------

    def _token(self, id_: str) -> TokenRecord:
        with reading(self._engine, f"read the token {id_}") as db:
            row = db.execute(select(*_COLUMNS).where(t.tokens.c.id == id_)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(
                f"cannot find the token {id_!r}: there is none of this id", hint="see `farm token list`"
            )
        return TokenRecord.model_validate(dict(row))

    def _identity(self, row: dict[str, Any], now: datetime) -> Identity:
        token = TokenRecord.model_validate(row)
        if token.used is None or now - token.used > _NOTED_EVERY:
            # Whoever only looks can do that while nothing can be written.
            with suppress(HostError, ConfigError), writing(self._engine, "note the use of a token") as db:
                db.execute(update(t.tokens).where(t.tokens.c.id == token.id).values(used=text_of(now)))
        return Identity(name=token.name, scope=token.scope, token=token.id)


def _check_name(name: str) -> None:
    if not re.fullmatch(PRINCIPAL, name):
        raise ConfigError(
            f"cannot create a token for {name[:100]!r}: this is no name",
            hint="write up to 80 letters, digits, `.`, `_`, `@`, `-`; the first a letter or a digit",
        )
    if name.casefold() in _RESERVED:
        raise ConfigError(f"cannot create a token for {name!r}: the farm calls others so", hint="take another name")


def _good(now: datetime) -> Any:
    return and_(t.tokens.c.revoked.is_(None), or_(t.tokens.c.expires.is_(None), t.tokens.c.expires > text_of(now)))


def _hash(secret: str) -> str:
    # Of 256 random bits: nothing to be guessed, so nothing to be slowed down.
    return hashlib.sha256(secret.encode()).hexdigest()
