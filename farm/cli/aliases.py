"""Aliases of images, settled when a run is submitted: a name and a digest that stay what they are."""

from __future__ import annotations

from rich.markup import escape

from farm.cli.follow import follow
from farm.cli.screen import err, out
from farm.config import Settings
from farm.model import ImageSpec, Plan

_SHORT = 12


def meaning(settings: Settings, name: str) -> str:
    """The real name of an image: what an alias means today. A name that is no alias stays. Raises ConfigError."""
    return Resolver(settings, build_s=0.0).name(name)


def aliases_in(plan: Plan) -> dict[str, str]:
    """The aliases in a plan -> what they meant when this farm was written; nobody is asked. Raises ConfigError."""
    from runners.images import aliases  # noqa: PLC0415

    names = sorted({placement.cell.image for placement in plan.placements})
    return {name: aliases.by_table(name) for name in names if aliases.is_alias(name)}


class Resolver:
    """From the alias of an image to the image of this machine that it means."""

    def __init__(self, settings: Settings, *, build_s: float) -> None:
        """`build_s`: how long the building of an image may take."""
        self._settings = settings
        self._build_s = build_s
        self._names: dict[str, str] = {}
        self.doubts: dict[str, str] = {}
        """Aliases that the farm's own table had to settle -> why, in a sentence."""

    def __call__(self, spec: ImageSpec) -> ImageSpec | None:
        """The image with its digest, built if need be; None where its name is no alias. Raises FarmError."""
        from runners.deadline import Deadline  # noqa: PLC0415
        from runners.images import Catalogue, aliases  # noqa: PLC0415
        from runners.images.spec import base  # noqa: PLC0415

        if spec.cloud or not aliases.is_alias(spec.name):
            return None
        real = spec.model_copy(update={"name": self.name(spec.name)})
        catalogue = Catalogue(self._settings.cache / "images", self._settings.mirror)
        deadline = Deadline.after(self._build_s, f"build {real.name}/{real.arch}")
        # Of layers whose scripts run in a guest, what is under them is settled: they are made when a cell needs them.
        image = catalogue.find(real) or follow(catalogue.ensure(base(real), deadline=deadline))
        out.print(f"{spec.name}/{spec.arch} is {real.name}, digest {image.digest[:_SHORT]}", soft_wrap=True)
        return real.model_copy(update={"digest": image.digest})

    def name(self, alias: str) -> str:
        """What an alias means today, asked once a day of the archive. Raises ConfigError."""
        from runners.guest import wait_for  # noqa: PLC0415
        from runners.images import aliases  # noqa: PLC0415

        if alias in self._names or not aliases.is_alias(alias):
            return self._names.get(alias, alias)
        asked = aliases.meaning(
            alias,
            mirror=self._settings.mirror,
            cache=self._settings.cache / "aliases",
            runtime=self._settings.runtime,
        )
        with err.status(f"asking the archive what {alias} is …"):
            found = wait_for(asked)
        if found.doubt:
            self.doubts[alias] = f"{alias} is taken for {found.name}, as this farm knows it: {found.doubt}"
            err.print(f"[yellow]warning:[/] {escape(self.doubts[alias])}", soft_wrap=True)
        self._names[alias] = found.name
        return found.name
