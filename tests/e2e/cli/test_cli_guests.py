"""Real guests: hostile tests and results, an image that cannot be had, and three architectures side by side."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runners.logs import HEAD_BYTES, TAIL_BYTES
from tests.e2e.cli.conftest import PACKAGES, Farm, real, verdict

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

GOOD = '<testsuite name="unit"><testcase name="one"/></testsuite>\n'
LAUGHS = '<?xml version="1.0"?>\n<!DOCTYPE l [\n<!ENTITY l0 "ha">\n' + "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">\n' for n in range(1, 10)
)
RUBBISH = bytes(range(256)) * 64 + b"\x1b]0;owned\x07\x1b[2J\x1b[31mred\n"
FLOOD_BYTES = 200_000_000

CASES: dict[str, str] = {
    "flood": f"yes 0123456789abcdef0123456789abcdef | head -c {FLOOD_BYTES}\ncp good.xml result.xml\n",
    "rubbish": "cat rubbish.bin\ncp good.xml result.xml\n",
    "full-disk": "dd if=/dev/zero of=big bs=1M || exit 7\n",
    "empty": ": > result.xml\n",
    "truncated": "head -c 40 good.xml > result.xml\n",
    "control": "cp control.xml result.xml\n",
    "laughs": "cp laughs.xml result.xml\n",
    "many": """{
  echo '<testsuite name="unit">'
  awk 'BEGIN { for (n = 0; n < 100000; n++) print "<testcase name=\\"t" n "\\"/>" }'
  echo '</testsuite>'
} > result.xml
""",
    "plain": "cp good.xml result.xml\n",
}
EXPECTED = {
    "flood": ("passed", None, "passed"),
    "rubbish": ("passed", None, "passed"),
    "full-disk": ("failed", "test", "script-failed"),
    "empty": ("error", "test", "results-broken"),
    "truncated": ("error", "test", "results-broken"),
    "control": ("passed", None, "passed"),
    "laughs": ("error", "test", "results-broken"),
    "many": ("passed", None, "passed"),
    "plain": ("passed", None, "passed"),
}
DATA: dict[str, str | bytes] = {
    "good.xml": GOOD,
    "control.xml": '<testsuite name="unit"><testcase name="a\x01\x1b[31mb&#7;c"/></testsuite>\n',
    "laughs.xml": LAUGHS + "]>\n<testsuite><testcase name='&l9;'/></testsuite>\n",
    "rubbish.bin": RUBBISH,
}
ORDER_C = """\
#include <stdio.h>
int main(void) { int one = 1; puts(*(char *)&one ? "little" : "big"); return 0; }
"""


def log_of(farm: Farm, case: str, name: str) -> bytes:
    """A log of the store, as the guest wrote it."""
    (path,) = farm.state.glob(f"runs/*/*case={case}~*/1/logs/{name}.log")
    return path.read_bytes()


def test_hostile_tests_and_results_are_bounded_cleaned_and_judged(farm: Farm) -> None:
    matrix = farm.matrix(
        files={**DATA, **{f"{case}.sh": script for case, script in CASES.items()}},
        axes=real(case=list(CASES)),
        guest={"memory": 384, "disk": "1G", "packages": PACKAGES},
        test=". ./$CASE.sh\n",
        collect={"junit": ["result.xml"], "artifacts": ["none/*.txt"]},
        max_parallel=2,
    )
    ended = farm("run", matrix, timeout_s=400)
    assert ended.status == 1, ended.err
    cells = farm.cells()
    assert {case: verdict(cell) for case, cell in cells.items()} == EXPECTED
    check_logs(farm)
    check_results(cells)
    page = (farm.folder / "farm-report/index.html").read_text()
    assert not {chr(code) for code in range(32) if chr(code) not in "\t\n"} & set(page)
    assert "\x1b" not in ended.out


def check_logs(farm: Farm) -> None:
    flood = log_of(farm, "flood", "test")
    assert HEAD_BYTES < len(flood) < HEAD_BYTES + TAIL_BYTES + 1000
    assert re.search(rb"\n\[farm: 19\d{7} bytes of stdout left out here\]\n", flood)
    assert log_of(farm, "rubbish", "test") == RUBBISH
    printed = farm("logs", "latest", "debian-13/amd64/qemu/case=rubbish", "test").out
    assert "red" in printed
    assert not {"\x1b", "\x07", "\x00"} & set(printed)
    assert b"no file matches the artifact glob 'none/*.txt'" in log_of(farm, "plain", "collect")


def check_results(cells: dict[str, dict[str, Any]]) -> None:
    assert "returned 7" in cells["full-disk"]["outcome"]["summary"]
    assert "document type" in cells["laughs"]["outcome"]["summary"]
    assert cells["laughs"]["tests"]["all"] == 0
    assert cells["many"]["tests"]["passed"] == 100_000
    (test,) = cells["control"]["attempts"][0]["tests"]
    assert all(character.isprintable() for character in test["name"])


def test_a_package_that_does_not_exist_is_an_error_of_the_matrix_and_named(farm: Farm) -> None:
    matrix = farm.matrix(axes=real(), guest={"packages": ["no-such-package-xyz"]})
    assert farm("run", matrix).status == 2
    (cell,) = farm.cells().values()
    assert verdict(cell) == ("error", "config", "not-to-be-had")
    assert "no-such-package-xyz" in cell["outcome"]["summary"]
    assert len(cell["attempts"]) == 1


def test_three_architectures_build_and_run_a_program_side_by_side(farm: Farm) -> None:
    matrix = farm.matrix(
        files={"order.c": ORDER_C},
        axes=real("amd64", "riscv64", "s390x"),
        guest={"memory": 384, "packages": PACKAGES},
        build="cc -o order order.c\n",
        test="./order | tee order.txt\n",
        collect={"artifacts": ["order.txt"]},
    )
    ended = farm("run", matrix)
    assert ended.status == 0, ended.out
    orders = {arch: farm("logs", "latest", f"debian-13/{arch}", "test").out for arch in farm.cells()}
    assert orders == {"amd64": "little\n", "riscv64": "little\n", "s390x": "big\n"}
    assert all(cell["emulated"] for cell in farm.cells().values())
    assert {file.read_text() for file in farm.state.rglob("artifacts/order.txt")} == {"little\n", "big\n"}
