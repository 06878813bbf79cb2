"""`make demo`: run matrices/demo.yaml, then say whether exactly the expected cell failed, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MATRIX = Path("matrices/demo.yaml")
REPORT = Path("farm-report")
EXPECTED_FAILURE = "debian-13/s390x/bug=on"
A_TEST_FAILED = 1


def main() -> int:
    """0 if all cells passed but the one with the portability bug on the big-endian machine."""
    command = [str(Path(sys.executable).with_name("farm")), "run", str(MATRIX), "--out", str(REPORT)]
    status = subprocess.run(command, check=False).returncode
    if status not in (0, A_TEST_FAILED):
        return status
    cells = {cell["id"]: cell["outcome"] for cell in json.loads((REPORT / "report.json").read_text())["cells"]}
    surprises = [
        f"{name}: {outcome['verdict']}, blame {outcome['blame']}: {outcome['summary']}"
        for name, outcome in cells.items()
        if (outcome["verdict"], outcome["blame"])
        != (("failed", "test") if name == EXPECTED_FAILURE else ("passed", None))
    ]
    if surprises or EXPECTED_FAILURE not in cells:
        print("demo: not what was expected:", *(surprises or [f"{EXPECTED_FAILURE} is missing"]), sep="\n  ")
        return 1
    print(
        f"demo: as expected. The bug is compiled into one cell of each architecture, and only the big-endian"
        f" machine\n      ({EXPECTED_FAILURE}) shows it: {cells[EXPECTED_FAILURE]['summary']}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
