"""Names of tokens: whoever has one is taken for whom it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import ConfigError
from farm.model import Scope
from farm.store import Store
from farm.store.access import Access
from tests.unit.rehearsal import now


@pytest.fixture
def access(database_url: str, tmp_path: Path) -> Iterator[Access]:
    store = Store.open(database_url, tmp_path)
    yield Access(store.engine)
    store.close()


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "anonymous",
        "Anonymous",
        "trigger github",
        "command line",
        "-x",
        "a\n",
        "a/b",
        "a\x1b[2J",
        "ä",
        "x" * 81,
    ],
)
def test_a_name_that_is_none_or_is_the_farms_own_gets_no_token(access: Access, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot create a token for"):
        access.create_token(name, Scope.ADMIN, by="test", now=now())
    assert access.tokens() == ()
    assert access.audit() == ()


@pytest.mark.parametrize("name", ["a", "7", "ada@example.org", "the-read", "ci_1.x", "x" * 80])
def test_a_name_of_somebody_gets_one(access: Access, name: str) -> None:
    _, secret = access.create_token(name, Scope.READ, by="test", now=now())
    found = access.identify(secret, now=now())
    assert found
    assert found.name == name
