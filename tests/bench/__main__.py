"""The figures: `make bench`, or some of them: `python -m tests.bench upload command`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from tests.bench import api, autopkgtest, boot, command, demo, destroy, image, memory, pages, rate, restore, upload
from tests.bench.figures import HEAD, Figure

FIGURES: Mapping[str, Callable[[], Iterator[Figure]]] = MappingProxyType(
    {
        "boot": boot.figures,
        "restore": restore.figures,
        "autopkgtest": autopkgtest.figures,
        "memory": memory.figures,
        "command": command.figures,
        "upload": upload.figures,
        "destroy": destroy.figures,
        "demo": demo.figures,
        "image": image.figures,
        "api": api.figures,
        "pages": pages.figures,
        "rate": rate.figures,
    }
)


_NEEDED = {
    "command": ("ssh", "openssh-client"),
    "upload": ("ssh", "openssh-client"),
    "pages": ("chromium", "chromium"),
    "autopkgtest": ("autopkgtest-virt-qemu", "autopkgtest"),
}
"""Programs that figures measure against, and the Debian packages that they are in."""


def main() -> None:
    """Measure what is asked for, everything by default, and print it as a table in Markdown.

    What there is nothing here to measure against is left out. Ends with 1 where an aim is missed.
    """
    parser = argparse.ArgumentParser(description="Measure; each row names both arms, medians with their spread.")
    parser.add_argument("names", nargs="*", metavar="|".join(FIGURES), help="all by default")
    names = parser.parse_args().names or FIGURES
    if unknown := [name for name in names if name not in FIGURES]:
        parser.error(f"there is no figure {unknown[0]!r}")
    print(HEAD, flush=True)
    missed = False
    for name in filter(_measurable, names):
        for figure in FIGURES[name]():
            print(figure.row(), flush=True)
            missed |= figure.missed
    sys.exit(missed)


def _measurable(name: str) -> bool:
    """Whether what a figure is measured against is here; says so where it is not."""
    program, package = _NEEDED.get(name, ("", ""))
    if not program or shutil.which(program):
        return True
    print(f"left out: {name}; there is no {program}: apt-get install {package}", file=sys.stderr, flush=True)
    return False


if __name__ == "__main__":
    main()
