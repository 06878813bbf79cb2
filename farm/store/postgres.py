"""What PostgreSQL's driver is taught."""

from __future__ import annotations

from psycopg.types.string import StrDumper


class Text(StrDumper):
    """Texts without the one sign that PostgreSQL cannot keep; SQLite can."""

    def dump(self, obj: str) -> bytes | None:
        """The bytes of a text, as they are sent."""
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))  # type: ignore[return-value]
