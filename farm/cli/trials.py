"""What `farm hosts --compare` does: guests on one hypervisor after the other, so that none disturbs another."""

from __future__ import annotations

import os
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from farm import comparison
from farm.cli.here import probe
from farm.cli.screen import err, out
from farm.config import load_settings
from farm.model import Trial


def compare_hosts(uris: list[str], image: str, guests: int, file: Path | None) -> None:
    """Print the table, and write it as Markdown where a file is named; `image` may name an architecture, too."""
    from runners.hosts.trial import trials  # noqa: PLC0415
    from runners.libvirt.hypervisors import native_arch  # noqa: PLC0415

    name, _, arch = (image or "debian-13").partition("/")
    found: list[Trial] = []
    for uri in uris:
        os.environ["FARM_HOST_URI"] = uri  # for all that reads the settings of this process
        settings = load_settings()
        with out.status(f"having guests on {escape(settings.host_name)} …"):
            host = probe().local_host(settings)
            for trial in trials(host, settings, image=name, arch=arch or native_arch(), guests=guests):
                found.append(trial)
                err.print(f"{trial.host}: {trial.offer.hypervisor} {trial.problem or 'is measured'}", soft_wrap=True)
    table = Table(*comparison.header(), box=None, pad_edge=False, header_style="dim")
    for row in comparison.rows(found):
        table.add_row(*map(escape, row))
    out.print(table)
    if file:
        file.write_text(comparison.markdown(found), encoding="utf-8")
