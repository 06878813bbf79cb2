"""Patterns as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from farm.report.evidence import plural
from farm.report.patterns import Finding, Kind, MessageGroup, Patterns

_MOST_NAMES = 8
_MOST_FINDINGS = 50
_MOST_GROUPS = 20


def to_text(found: Patterns) -> str:
    """What fails, where, and how much that is worth."""
    return "\n".join(_lines(found)) + "\n"


def evidence_words(finding: Finding) -> str:
    """What has to be known of the evidence: `emulated only, a single cell`; mostly nothing."""
    words = (
        ("emulated only", finding.emulated_only),
        ("a single cell", finding.single_cell),
        ("a single attempt", finding.single_attempt),
        (f"flaky in {plural(finding.flaky_cells, 'cell')}", finding.flaky_cells > 0),
    )
    return ", ".join(word for word, so in words if so)


def _lines(found: Patterns) -> Iterator[str]:
    yield f"{found.run}: {found.with_data} of {plural(found.cells, 'cell')} gave data; axes that vary: {_axes(found)}"
    if not found.of_cells and not found.findings:
        yield "Nothing failed."
        return
    if found.of_cells:
        yield ""
        yield f"cells  {_sentence(found.of_cells)}"
    for finding in found.findings[:_MOST_FINDINGS]:
        yield ""
        yield f"{plural(finding.count, 'test')}  {_sentence(finding)}"
        yield f"  {_names(finding)}"
    left = found.left_out + max(0, len(found.findings) - _MOST_FINDINGS)
    if left:
        yield f"\n… and {left} more such groups of tests"
    yield from _groups(found)


def _sentence(finding: Finding) -> str:
    """The sentence; of a partial pattern those that come second, too; and what the evidence is worth."""
    others = finding.patterns[1:] if finding.kind is Kind.PARTIAL else ()
    said = "; or it ".join((finding.sentence, *(one.sentence for one in others)))
    marks = evidence_words(finding)
    return f"{said} [{marks}]" if marks else said


def _names(finding: Finding) -> str:
    shown = finding.tests[:_MOST_NAMES]
    left = finding.count - len(shown)
    return ", ".join(one.label for one in shown) + (f" and {left} more" if left else "")


def _groups(found: Patterns) -> Iterator[str]:
    if found.groups:
        yield ""
        yield "the same message"
    for group in found.groups[:_MOST_GROUPS]:
        yield f"  {_where(group)}: {group.message}"
    if len(found.groups) > _MOST_GROUPS:
        yield f"  … and {len(found.groups) - _MOST_GROUPS} more messages"


def _where(group: MessageGroup) -> str:
    tests = f" of {plural(group.count, 'test')}" if group.count else ""
    where = f" ({group.sentence})" if group.sentence else ""
    return f"{plural(group.failures, 'failure')}{tests} in {plural(group.fails, 'cell')}{where}"


def _axes(found: Patterns) -> str:
    return ", ".join(found.axes) or "none"


PATTERNS_FORMATS: dict[str, Callable[[Patterns], str]] = {"json": Patterns.model_dump_json, "text": to_text}
"""How what was found can be written."""
