"""What runs in the store say of compatibility: compared, explained, and put into a statement.

The judging is done by `farm.report`; here it is given what it needs: runs by reference, waivers, earlier runs, images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from farm.documents import Documents
from farm.errors import ConfigError, NotFoundError
from farm.images import Images
from farm.references import References
from farm.report import Document, evidence
from farm.report.compare import Comparison, Packages, compare
from farm.report.compare_formats import COMPARE_FORMATS
from farm.report.differences import PackageChange, guest
from farm.report.patterns import Patterns, patterns
from farm.report.patterns_text import PATTERNS_FORMATS
from farm.report.statement import statement
from farm.report.statement_formats import STATEMENT_FORMATS
from farm.report.support import Statement
from farm.report.waivers import Waived, apply
from farm.store import Store
from farm.store.history import History
from farm.store.waivers import Waivers

MOST_EARLIER: Final = 10
"""How many earlier runs may speak for cells that did not run for a release."""

PackagesOf = Callable[[Collection[tuple[str, str]]], Packages]
"""Pairs of digests of images -> the packages that are not the same in them, of those pairs that are known."""


class Compatibility:
    """The runs of a store, looked at for what they say of the program. May be used by several threads."""

    def __init__(self, store: Store, documents: Documents, packages: PackagesOf) -> None:
        self._references = References(store)
        self._documents = documents
        self._history = History(store.engine)
        self._waivers = Waivers(store.engine)
        self._packages = packages

    def document(self, reference: str) -> Document:
        """The report of a run. Raises NotFoundError."""
        return self._documents.get(self._references.resolve(reference))

    def compare(self, base: str, head: str) -> Comparison:
        """What became of every cell and test from one run to another. Raises NotFoundError."""
        after = self.document(head)
        before = self._documents.get(self._references.resolve(base, head=after.run.id))
        pairs = changed_images(before, after)
        return compare(before, after, packages=self._packages(pairs) if pairs else {})

    def patterns(self, reference: str) -> Patterns:
        """What can be said of where the tests and cells of a run fail. Raises NotFoundError."""
        return patterns(self.document(reference))

    def waived(self, reference: str, *, now: datetime) -> Waived:
        """What the waivers of a run's project are good for in it. Raises NotFoundError."""
        report = self.document(reference)
        return apply(report, self._waivers.list(report.run.project), now=now)

    def statement(
        self, reference: str, *, now: datetime, baseline: str | None = None, max_age_s: float | None = None
    ) -> Statement:
        """What may be claimed of every platform of a release: with the project's waivers. Raises NotFoundError.

        For cells that did not run, the newest earlier runs of the project speak that have them.
        """
        release = self.document(reference)
        head = release.run.id
        before = self._documents.get(self._references.resolve(baseline, head=head)) if baseline else None
        return statement(
            release,
            now=now,
            baseline=before,
            earlier=self._earlier(release, before),
            waivers=self._waivers.list(release.run.project),
            max_age_days=max_age_s / 86_400 if max_age_s is not None else None,
        )

    def _earlier(self, release: Document, baseline: Document | None) -> tuple[Document, ...]:
        """The runs that speak for what the release has no data of; those of most cells first."""
        there = {cell.id for cell in release.cells if evidence.standing(cell) is not evidence.Standing.NO_DATA}
        asked = {cell.id for report in (release, baseline) if report for cell in report.cells}
        if not asked - there:
            return ()
        found = self._history.last_with_data(release.run.project, asked - there, before=release.run.id)
        return tuple(self._documents.get(run) for run, _ in Counter(found.values()).most_common(MOST_EARLIER))


def compat_of(database: str, state: Path, images: Images) -> Compatibility:
    """Of the store with this URL and this folder of files, for a process of its own. Raises HostError."""
    store = Store.open(database, state)
    return Compatibility(store, Documents(store), packages_from(images))


def comparison_text(compat: Compatibility, base: str, head: str, form: str) -> str:
    """Two runs compared, in one of COMPARE_FORMATS. Raises NotFoundError."""
    return COMPARE_FORMATS[form](compat.compare(base, head))


def patterns_text(compat: Compatibility, run: str, form: str) -> str:
    """Where the tests of a run fail, in one of PATTERNS_FORMATS. Raises NotFoundError."""
    return PATTERNS_FORMATS[form](compat.patterns(run))


def statement_text(
    compat: Compatibility, run: str, *, form: str, now: datetime, baseline: str | None, max_age_s: float | None
) -> str:
    """What is supported, in one of STATEMENT_FORMATS. Raises NotFoundError."""
    made = compat.statement(run, now=now, baseline=baseline, max_age_s=max_age_s)
    return STATEMENT_FORMATS[form].render(made)


def changed_images(before: Document, after: Document) -> set[tuple[str, str]]:
    """The digests of the images that cells of the same id had, where they were not the same."""
    digests = {cell.id: found.image_digest for cell in before.cells if (found := guest(cell))}
    return {
        (digests[cell.id], found.image_digest)
        for cell in after.cells
        if (found := guest(cell)) and digests.get(cell.id, found.image_digest) != found.image_digest
    }


def packages_from(images: Images) -> PackagesOf:
    """What the images of a host tell of pairs of them; of those that it does not have any more, nothing."""

    def changes(pairs: Collection[tuple[str, str]]) -> Packages:
        found: dict[tuple[str, str], tuple[PackageChange, ...]] = {}
        for before, after in pairs:
            with suppress(NotFoundError, ConfigError):
                if (packages := images.diff(before, after).packages) is not None:
                    found[before, after] = tuple(
                        PackageChange(name=name, before=old, after=new) for name, (old, new) in packages.items()
                    )
        return found

    return changes
