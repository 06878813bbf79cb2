"""The picture of the pages in README.md, taken of a real server: `python -m tests.service.picture`.

Writes docs/pages.png: a run that fills, as an administrator sees it.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import sync_playwright

from farm.store import Store
from tests.service.browsing import CHROMIUM, SWITCHES, Visitor
from tests.service.conftest import serving
from tests.service.seeding import seeded
from tests.service.serving import Serving

FILE = Path(__file__).parents[2] / "docs" / "pages.png"
_SIZE = {"width": 1280, "height": 980}
_AXES = {
    "image": ["debian-12", "debian-13"],
    "arch": ["amd64", "arm64", "riscv64", "s390x"],
    "hypervisor": ["qemu"],
    "bug": ["off", "on"],
}


def _seeded(server: Serving) -> str:
    store = Store.open(f"sqlite:///{server.state / 'farm.db'}", server.state)
    begun = datetime.now(UTC) - timedelta(minutes=4)
    run = seeded(store, _AXES, version="1.21-rc", failing={"arch": "s390x", "bug": "on"}, at=begun, unfinished=5)
    store.close()
    return run


def main() -> None:
    """Take it."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, sync_playwright() as playwright:
        run = _seeded(server)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        visitor = Visitor(browser.new_context(base_url=server.url, viewport=_SIZE), server)
        visitor.log_in("admin")
        visitor.see(f"/runs/{run}?cols=image&cols=bug").screenshot(path=FILE)
        browser.close()


if __name__ == "__main__":
    main()
