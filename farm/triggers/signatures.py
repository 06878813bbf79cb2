"""How those who send webhooks show that it is they. Pure; secrets are compared in constant time.

Three schemes are in use: an HMAC-SHA256 of the body in hexadecimal, a token that is sent as it is, and the one of
<https://www.standardwebhooks.com> (an HMAC-SHA256 of id, time and body), which GitLab and the farm itself use.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from farm.errors import ForbiddenError

TOLERANCE = timedelta(minutes=5)
"""How far the clocks of sender and receiver may be apart: what Standard Webhooks suggests."""
_PREFIX = "whsec_"


class SignatureError(ForbiddenError):
    """Who sent this has not shown that it may."""


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    headers: Mapping[str, str]
    """By names in small letters."""
    body: bytes
    now: datetime


Check = Callable[[Received, str], None]
"""Of a request and a secret. Raises SignatureError."""


def hexadecimal(header: str, prefix: str = "") -> Check:
    """The HMAC-SHA256 of the body, in a header, after a prefix."""

    def check(received: Received, secret: str) -> None:
        told = _header(received, header)
        right = prefix + hmac.new(secret.encode(), received.body, hashlib.sha256).hexdigest()
        if not _same(told, right):
            raise SignatureError(f"cannot accept the webhook: {header} is not the signature of its body")

    return check


def token(header: str) -> Check:
    """The secret itself, in a header."""

    def check(received: Received, secret: str) -> None:
        if not _same(_header(received, header), secret):
            raise SignatureError(f"cannot accept the webhook: {header} is not the token of this trigger")

    return check


def standard(received: Received, secret: str) -> None:
    """Standard Webhooks: of several signatures one has to be right, and the time about now."""
    id_, sent = _header(received, "webhook-id"), _header(received, "webhook-timestamp")
    if not sent.isascii() or not sent.isdigit() or len(sent) > len("9999999999"):
        raise SignatureError("cannot accept the webhook: webhook-timestamp is not a time")
    right = sign(id_, datetime.fromtimestamp(int(sent), UTC), received.body, secret)
    if not any(_same(one, right) for one in _header(received, "webhook-signature").split()[:20]):
        raise SignatureError("cannot accept the webhook: webhook-signature does not fit")
    if abs(received.now - datetime.fromtimestamp(int(sent), UTC)) > TOLERANCE:
        raise SignatureError(f"cannot accept the webhook: it is not from now, but from {sent}")


def sign(id_: str, at: datetime, body: bytes, secret: str) -> str:
    """The value of `webhook-signature`; a secret that begins with `whsec_` is base64. `at` to the second."""
    content = f"{id_}.{int(at.timestamp())}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_key(secret), content, hashlib.sha256).digest()).decode()


def signing_or_token(header: str) -> Check:
    """Which of the two it is shows in the secret: those of Standard Webhooks begin with `whsec_`."""
    plain = token(header)

    def check(received: Received, secret: str) -> None:
        (standard if secret.startswith(_PREFIX) else plain)(received, secret)

    return check


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return secret.encode()  # somebody's own idea of a secret


def _header(received: Received, name: str) -> str:
    value = received.headers.get(name.lower(), "")
    if not value:
        raise SignatureError(f"cannot accept the webhook: it has no {name}")
    return value


def _same(told: str, right: str) -> bool:
    return hmac.compare_digest(told.encode("utf-8", "surrogatepass"), right.encode())
