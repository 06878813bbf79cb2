"""`farm reap`: what killed processes have left behind is shown, then destroyed; nothing else is touched."""

from __future__ import annotations

from tests.e2e.cli.conftest import Farm
from tests.unit.test_reaper import end, start_owner


def test_what_a_killed_process_left_is_shown_then_destroyed(farm: Farm) -> None:
    left, owned = farm.runtime / "left", farm.runtime / "owned"
    end(start_owner(farm.runtime, left))
    living = start_owner(farm.runtime, owned)
    try:
        shown = farm("reap", "--dry-run")
        assert shown.status == 0, shown.err
        assert f"folder {left}  (owner " in shown.out
        assert "1 left behind, nothing touched" in shown.out
        assert str(owned) not in shown.out
        assert left.exists()

        reaped = farm("reap")
        assert reaped.status == 0, reaped.err
        assert f"folder {left}  (owner " in reaped.out
        assert "1 left behind, destroyed" in reaped.out
        assert not left.exists()
        assert owned.exists()

        assert "0 left behind, destroyed" in farm("reap").out
    finally:
        end(living)
    assert "1 left behind, destroyed" in farm("reap").out
    assert not owned.exists()
