"""Break the farm N times: `python -m tests.chaos 1000 --seed 1`; prints the table of docs/reliability.md.

Ctrl-C ends it early; what was done so far is told all the same.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.chaos.campaign import Campaign, Step
from tests.chaos.faults import FAULTS, Dealt, deal, named, volleys
from tests.chaos.place import campaign_in


def main() -> None:
    """Exit with 1 where something did not hold."""
    parser = argparse.ArgumentParser(description="Break the farm on purpose; see docs/reliability.md.")
    parser.add_argument("count", type=int, help="how many faults")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of all that is random")
    parser.add_argument("--guests", choices=("fake", "real"), default="fake", help="scripted ones, or QEMU's")
    parser.add_argument(
        "--store", choices=("sqlite", "postgresql"), default="sqlite", help="what the farm keeps runs on"
    )
    parser.add_argument("--only", action="append", choices=tuple(FAULTS), help="these faults; all by default")
    parser.add_argument("--volley", type=int, default=6, help="how many faults are injected together")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="inject nothing more after that")
    told = parser.parse_args()
    names = named(told.guests, told.store, told.only or ())
    print(f"seed {told.seed}", flush=True)
    steps: list[Step] = []
    with campaign_in(told.store, told.guests, told.seed, Path(tempfile.gettempdir()) / f"chaos-{told.seed}.log") as one:
        one.begin()
        dealt = volleys(deal(names, told.count, told.seed), told.volley)
        try:
            for step in one.steps(_in_time(dealt, told.minutes)):
                steps.append(step)
                _say(step, told.seed)
        except KeyboardInterrupt:  # enough: what was done so far counts
            print("ended early")
        except Exception:
            print(table(steps))
            raise
        wrong = one.end()
    for line in wrong:
        print(f"at the end (seed {told.seed}): {line}")
    print(table(steps))
    print(f"\n{_sums(one)}")
    sys.exit(bool(wrong) or any(step.wrong for step in steps))


def table(steps: Sequence[Step]) -> str:
    """Faults and how many of them were survived, in Markdown."""
    of: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.injected:
            of[step.fault].append(step)
    lines = ["| fault | injected | survived | the longest until a cell ended |", "|---|---|---|---|"]
    for fault in (name for name in FAULTS if name in of):
        survived = sum(1 for step in of[fault] if not step.wrong)
        longest_s = max(step.took_s for step in of[fault])
        lines.append(f"| {fault} | {len(of[fault])} | {survived} | {longest_s:.0f} s |")
    injected = [step for group in of.values() for step in group]
    return "\n".join([*lines, f"| all | {len(injected)} | {sum(1 for step in injected if not step.wrong)} | |"])


def _in_time(dealt: Iterable[Sequence[Dealt]], minutes: float) -> Iterator[Sequence[Dealt]]:
    until = time.monotonic() + 60 * minutes
    for volley in dealt:
        if time.monotonic() > until:
            return
        yield volley


def _sums(done: Campaign) -> str:
    return (
        f"{done.runs} runs, {done.cells} cells, {done.attempts} attempts; {done.lost} cells came to an error of the"
        f" infrastructure; the server was started again {done.farm.restarts} times"
    )


def _say(step: Step, seed: int) -> None:
    how = "" if step.injected else " (nothing to do it to)"
    print(f"{step.number}: {step.fault}{how}: {step.took_s:.1f} s", flush=True)
    for line in step.wrong:
        print(f"  seed {seed} step {step.number}: {line}", flush=True)


if __name__ == "__main__":
    main()
