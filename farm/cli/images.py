"""`farm images`: the images of this host as things that one can build, look at, compare, check and remove."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from farm.cli import image_tables as tables
from farm.cli.farms import Server, TokenFile, server_farm
from farm.cli.follow import follow
from farm.cli.options import duration, mebibytes
from farm.cli.screen import err, out
from farm.cli.shelf import ShelfImages
from farm.config import Settings, load_settings
from farm.errors import NotFoundError
from farm.images import ImageDifference, ImageFacts, ImageLine, Images
from farm.report.words import duration as in_words
from farm.report.words import size

if TYPE_CHECKING:  # a third of a second, which other commands need not wait
    from runners.images import Catalogue, Image

_MIB = 1024 * 1024
_SHORT = 12
_DAMAGED = 1

images_app = typer.Typer(
    help="The images of this host; without a command, list them.", invoke_without_command=True, rich_markup_mode=None
)

Name = Annotated[
    str, typer.Argument(metavar="IMAGE", help="'debian-13/riscv64', the start of a digest, or the name of a folder.")
]


@images_app.callback()
def images(context: typer.Context) -> None:
    """List the images that have been built here, or on the server that FARM_SERVER names."""
    if context.invoked_subcommand is None:
        list_images(server=os.environ.get("FARM_SERVER", ""))


@images_app.command("list")
def list_images(*, server: Server = "", token_file: TokenFile = None) -> None:
    """List the images that have been built here, or where a server runs."""
    with _images(server, token_file) as images:
        found = images.all()
    if found:
        out.print(tables.images_table(found, time.time()))
    if not server:
        _list_rest()


def _list_rest() -> None:
    """What else lies on the shelf of this machine."""
    from runners.images import prune  # noqa: PLC0415

    settings = load_settings()
    things = prune.survey(settings.cache)
    for name in _catalogue(settings).unreadable():
        err.print(f"[yellow]damaged:[/] {name}; `farm images verify --remove` removes it", soft_wrap=True)
    if not any(thing.kind == "image" for thing in things):
        out.print("No image has been built here yet: `farm images build debian-13/amd64` builds one, and every run")
        out.print("builds those that it needs.")
    out.print(tables.total(things, settings.cache_limit, str(settings.cache)), style="dim", soft_wrap=True)


@images_app.command()
def build(
    image: Annotated[str, typer.Argument(metavar="IMAGE/ARCH", help="What to build: 'debian-13/riscv64'.")],
    packages: Annotated[
        list[str] | None, typer.Option("--with", metavar="PKG", help="A Debian package to add. Repeatable.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also if it is there: from the archive as it is now. The old one is kept.")
    ] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long it may take.")] = "30m",
) -> None:
    """Build an image, if it is not there; its log goes to standard error."""
    from runners.deadline import Deadline  # noqa: PLC0415
    from runners.images import prune  # noqa: PLC0415
    from runners.images.naming import parse_spec  # noqa: PLC0415

    settings = load_settings()
    catalogue, spec = _catalogue(settings), parse_spec(_real_name(settings, image), packages or ())
    started, there = time.monotonic(), catalogue.find(spec)
    deadline = Deadline.after(duration(timeout), f"build {image}")
    old = None
    if there and not again:
        found, took = there, "was there already"
    else:
        found, old = follow(catalogue.renew(spec, deadline=deadline))
        took = f"built in {in_words(time.monotonic() - started)}"
        took += ", the same as before" if there and not old else ""
    on_disk = size(catalogue.shelf.size_bytes(found.folder.name))
    out.print(f"{tables.title(found.manifest)}  {found.digest}  {on_disk}, {took}", soft_wrap=True)
    if old:
        out.print(f"what has changed: farm images diff {old.digest[:_SHORT]} {found.digest[:_SHORT]}", soft_wrap=True)
    with _held(catalogue, found):
        follow(prune.tidy(settings))


@images_app.command()
def show(
    *,
    image: Name,
    packages: Annotated[bool, typer.Option("--packages", help="Only its packages, with their versions.")] = False,
    json: Annotated[bool, typer.Option("--json", help="All that is known of it, for programs.")] = False,
    server: Server = "",
    token_file: TokenFile = None,
) -> None:
    """Show what an image holds and how it was made."""
    with _images(server, token_file) as images:
        found = images.show(image)
    if json:
        print(found.model_dump_json(indent=2))  # noqa: T201 - for programs
    elif packages:
        for name, version in sorted(found.packages.items()):
            print(f"{name} {version}")  # noqa: T201 - for programs
    else:
        here = {} if server else _place(found.image.digest)
        out.print(tables.image_facts(found, here, time.time()))


def _place(digest: str) -> Mapping[str, str]:
    """Where an image lies on this machine, and what rests on it."""
    from runners.images import prune  # noqa: PLC0415

    settings = load_settings()
    folder = _chosen(settings, digest).folder
    sizes = [thing.size_bytes for thing in prune.survey(settings.cache) if thing.image == folder.name]
    return {"snapshots": f"{len(sizes)}, {size(sum(sizes))}" if sizes else "", "folder": str(folder)}


@images_app.command()
def diff(*, before: Name, after: Name, server: Server = "", token_file: TokenFile = None) -> None:
    """Show, package by package, what differs between two images; exit status 1 where something does, as diff does."""
    with _images(server, token_file) as images:
        found = images.diff(before, after)
    if not found.packages and not found.facts:
        out.print(f"the same: {tables.title(found.before)}, digest {found.before.digest[:_SHORT]}")
        return
    for table in tables.difference_tables(found.packages or {}, found.facts):
        out.print(table)
        out.print()
    out.print(tables.difference_sentence(found.packages))
    raise typer.Exit(1)


@images_app.command()
def verify(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Which; without any, all of them.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove those that are damaged.")] = False,
) -> None:
    """Read the files of images again and hold them against what was built; exit status 1 where one is damaged."""
    settings = load_settings()
    catalogue = _catalogue(settings)
    damaged = {} if images else catalogue.unreadable()
    for image in [_chosen(settings, name) for name in images] if images else catalogue.list():
        wrong = _verified(catalogue, image)
        if wrong:
            damaged[image.folder.name] = "; ".join(wrong)
        else:
            state = "as it was built" if image.manifest.files else "cannot be told: built before digests were kept"
            out.print(f"{tables.title(image.manifest)}  {image.digest[:_SHORT]}  {state}", soft_wrap=True)
    for name, why in damaged.items():
        err.print(f"[bold red]damaged:[/] {name}: {escape(why)}", soft_wrap=True)
    if damaged:
        _deal_with(settings, damaged, remove=remove)
        raise typer.Exit(_DAMAGED)


@images_app.command()
def prune(
    older_than: Annotated[str, typer.Option(metavar="TIME", help="All that was not used for so long: 30d.")] = "",
    keep: Annotated[
        str, typer.Option(metavar="SIZE", help="As much as is beyond this: 20G. If not given, FARM_CACHE_LIMIT.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
    """Remove images and snapshots that were not used for longest, and what killed processes have left."""
    from runners.images import prune as pruning  # noqa: PLC0415

    settings = load_settings()
    limit_mib = mebibytes(keep) if keep else settings.cache_limit or None
    limits = pruning.Limits(
        older_than_s=time.time() - duration(older_than) if older_than else 0.0,
        keep_bytes=float("inf") if limit_mib is None else limit_mib * _MIB,
    )
    freed = 0
    for gone in pruning.prune(settings.cache, limits, dry_run=dry_run):
        freed += gone.size_bytes
        out.print(f"{gone.kind}  {gone.name}  {size(gone.size_bytes)}  {gone.why}", soft_wrap=True)
    left = tables.total(pruning.survey(settings.cache), settings.cache_limit, str(settings.cache))
    out.print(f"{'would free' if dry_run else 'freed'} {size(freed)}; there {'is' if dry_run else 'is left'}: {left}")


@dataclass(frozen=True)
class _Here:
    """The images of this machine, also by their aliases as the archive means them today."""

    settings: Settings

    def all(self) -> tuple[ImageLine, ...]:
        """As Images."""
        return ShelfImages(self.settings).all()

    def show(self, name: str) -> ImageFacts:
        """As Images."""
        return ShelfImages(self.settings).show(_real_name(self.settings, name))

    def diff(self, before: str, after: str) -> ImageDifference:
        """As Images."""
        names = (_real_name(self.settings, name) for name in (before, after))
        return ShelfImages(self.settings).diff(*names)


@contextmanager
def _images(server: str, token_file: Path | None) -> Iterator[Images]:
    if server:
        with server_farm(server, token_file) as farm:
            yield farm.images
    else:
        yield _Here(load_settings())


def _catalogue(settings: Settings) -> Catalogue:
    from runners.images import Catalogue  # noqa: PLC0415

    return Catalogue(settings.cache / "images", settings.mirror)


def _chosen(settings: Settings, name: str) -> Image:
    from runners.images.naming import choose  # noqa: PLC0415

    return choose(_catalogue(settings).list(), _real_name(settings, name))


def _real_name(settings: Settings, text: str) -> str:
    """The same with an alias replaced by what it means today."""
    from farm.cli.aliases import meaning  # noqa: PLC0415

    name, slash, arch = text.rpartition("/")
    return f"{meaning(settings, name)}{slash}{arch}"


@contextmanager
def _held(catalogue: Catalogue, image: Image) -> Iterator[None]:
    """Nobody removes it meanwhile."""
    fd = catalogue.shelf.hold(image.folder.name)
    try:
        yield
    finally:
        os.close(fd)


def _verified(catalogue: Catalogue, image: Image) -> Sequence[str]:
    from runners.images.verify import verify  # noqa: PLC0415

    try:
        with _held(catalogue, image), err.status(f"reading {tables.title(image.manifest)} …"):
            return follow(verify(image))
    except NotFoundError:  # removed by somebody else: nothing is wrong
        return ()


def _deal_with(settings: Settings, damaged: dict[str, str], *, remove: bool) -> None:
    """Remove what is damaged and the snapshots that rest on it, or say how to."""
    from runners.images import prune as pruning  # noqa: PLC0415

    if not remove:
        err.print("`farm images verify --remove` removes it; the next run that needs it builds it again", style="dim")
        return
    shelf = _catalogue(settings).shelf
    for name in damaged:
        state = "removed" if shelf.remove(name) else "not removed: it is in use; end what runs from it and try again"
        err.print(f"{name}: {state}", soft_wrap=True)
    for gone in pruning.prune(settings.cache, pruning.Limits()):
        err.print(f"{gone.kind} {gone.name}: removed, {gone.why}", soft_wrap=True)
