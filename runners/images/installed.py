"""An *installed* image: a whole Debian; the packages' own scripts have run, and systemd is the first process.

They have to run as root of the image. That takes root here, or a user namespace with ids of its own for the
image's other users (subuid(5)); and for a foreign architecture qemu-user, registered with binfmt_misc.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from farm.errors import ImageError
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images.bootstrap import COMMON, bootstrap
from runners.images.digest import tree_digest
from runners.images.disk import make_disk
from runners.images.kernel import command_line
from runners.images.made import Made, boot_files, released_s, say, versions
from runners.images.mirror import machine_mirror
from runners.images.owner import as_owner, remove_tree
from runners.images.rootfs import SHELL, write_file, write_files, write_programs
from runners.images.spec import all_files, boot_packages, guest_file
from runners.images.unpacked import architectures
from runners.machines import machine_for

PACKAGES = (
    *("busybox-static", "dbus", "dropbear-bin", "e2fsprogs", "iproute2", "kmod", "netbase", "perl-base", "procps"),
    *("systemd-sysv", "udev"),
)
"""In every installed image, beside what is essential in Debian, and apt."""

_LEFT_OUT = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    *(f"path-exclude=/usr/share/{name}/*" for name in ("groff", "info", "lintian", "locale", "man")),
)
"""For dpkg, which keeps to it in the guest as well."""

_TRIMMED = ("var/cache/apt", "var/lib/apt/lists")
_FOLDERS = ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "work")

_DROP_INS = {
    # Emulated, to go through every device takes 4 s. The kernel has made the nodes of all of them.
    "systemd-udev-trigger.service": (
        "[Service]\nExecStart=\nExecStart=-udevadm trigger --action=add"
        " --subsystem-match=block --subsystem-match=net --subsystem-match=misc\n"
    ),
}
"""Units of systemd -> what is different in a guest."""

_UNITS = {"farm-setup.service": "sysinit.target", "farm-guest.service": "multi-user.target"}
"""The farm's own -> what wants them."""

_MASKED = (
    # Timers and their like: nothing is to happen in a guest but what the attempt does.
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("man-db.timer", "systemd-tmpfiles-clean.timer", "e2scrub_reap.service"),
    # Nobody sits at the console: it is the farm's.
    *("getty.target", "console-getty.service", "getty@.service", "serial-getty@.service"),
    *("systemd-ask-password-console.path", "systemd-ask-password-wall.path"),
    # The seed brings entropy; a clone's must not be its template's.
    "systemd-random-seed.service",
    # For machines that are kept, or have a TPM.
    *("systemd-firstboot.service", "systemd-pstore.service", "systemd-hibernate-clear.service"),
    *("systemd-machine-id-commit.service", "systemd-journal-flush.service", "systemd-remount-fs.service"),
    *("systemd-pcrmachine.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service"),
    *("systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service"),
    # For debugging a kernel, and for hardware that a guest has not. What needs one of them mounts it.
    *("dev-hugepages.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-fs-fuse-connections.mount", "modprobe@drm.service", "systemd-udev-load-credentials.service"),
)
_ON_DEMAND = ("multi-user.target.wants/systemd-logind.service",)
"""Links in systemd's own folder that are taken away: dbus starts it when it is asked for."""

_MASKED_GENERATORS = tuple(
    f"systemd-{name}-generator"
    for name in ("cryptsetup", "debug", "getty", "gpt-auto", "hibernate-resume", "integritysetup", "ssh", "tpm2")
)
"""Programs that run before everything else, to find what a guest never has."""

_DAY_S = 24 * 3600
_CMDLINE = "systemd.show_status=auto systemd.condition_needs_update=no"


def make(spec: ImageSpec, folder: Path, *, mirror: str, deadline: Deadline, keep_fds: Sequence[int]) -> Work[Made]:
    """Make an installed image, see `made.Kind`."""
    mirror = mirror or machine_mirror()
    check_rights()
    tree = folder / "tree"
    yield say(f"installing the packages of {spec.name}/{spec.arch} from {mirror}")
    try:
        yield from bootstrap(
            spec,
            tree,
            lambda suite: as_owner(mmdebstrap(spec, tree, mirror, suite)),
            prepare=lambda: remove_tree(tree),
            deadline=deadline,
            env={"INITRD": "No"},  # see initramfs-tools' hook of the kernel: the farm boots with its own
            keep_fds=keep_fds,
        )
        files = boot_files(spec, tree, folder)
        yield TICK
        packages = finish(tree)
        write_files(tree, all_files(spec))
        yield say(f"making the disk from {len(packages)} packages")
        content = yield from tree_digest(tree, deadline=deadline, keep_fds=keep_fds, wrap=as_owner)
        disk_mib = yield from make_disk(
            tree, folder / "disk", created_s=released_s(tree), deadline=deadline, keep_fds=keep_fds, wrap=as_owner
        )
    finally:
        remove_tree(tree)
    return Made(
        files=(folder / "disk", *files),
        disk_mib=disk_mib,
        mirror=mirror,
        content=content,
        packages=packages,
        cmdline=f"{command_line(machine_for(spec.arch))} {_CMDLINE}",
        tools=versions(("mmdebstrap", "--version"), ("mke2fs", "-V")),
    )


def mmdebstrap(spec: ImageSpec, tree: Path, mirror: str, suite: str) -> tuple[str, ...]:
    """The command that installs a spec's packages into a tree; /usr is merged in every release."""
    include = sorted({*PACKAGES, *boot_packages(spec), *spec.packages})
    return (
        *COMMON,
        "--mode=root",
        "--variant=minbase",
        f"--architectures={','.join(architectures(spec))}",
        "--skip=check/empty,cleanup/apt",
        *(f"--dpkgopt={option}" for option in _LEFT_OUT),
        "--dpkgopt=force-unsafe-io",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        f"--include={','.join(include)}",
        suite,
        str(tree),
        f"deb {mirror} {suite} main",
    )


def check_rights() -> None:
    """Raise ImageError where this user cannot install packages."""
    try:
        subprocess.run(as_owner(["true"]), check=True, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise ImageError(
            f"cannot install packages: it takes root, or a user namespace with sub-ids: {said.strip()}",
            hint="install uidmap and give this user a range in /etc/subuid and /etc/subgid, or take an unpacked image",
        ) from error


def finish(tree: Path) -> dict[str, str]:
    """Make an installed tree into a guest; gives every package with its version. Raises ImageError."""
    packages = installed_packages(tree)
    for name in _TRIMMED:
        remove_tree(tree / name)
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    _write_settings(tree)
    _date_passwords(tree)
    write_programs(tree)
    for unit, target in _UNITS.items():
        write_file(tree, f"etc/systemd/system/{unit}", guest_file(unit))
        _link(tree / f"etc/systemd/system/{target}.wants/{unit}", f"../{unit}")
    for unit, text in _DROP_INS.items():
        write_file(tree, f"etc/systemd/system/{unit}.d/farm.conf", text)
    for link in _ON_DEMAND:
        (tree / "usr/lib/systemd/system" / link).unlink(missing_ok=True)
    for unit in _MASKED:
        _link(tree / "etc/systemd/system" / unit, "/dev/null")
    for name in _MASKED_GENERATORS:
        _link(tree / "etc/systemd/system-generators" / name, "/dev/null")
    return packages


def installed_packages(tree: Path) -> dict[str, str]:
    """Every package in a tree with its version, as its dpkg has it. Raises ImageError."""
    form = "${db:Status-Status}\t${Package}\t${Version}\n"
    argv = ["dpkg-query", f"--admindir={tree / 'var/lib/dpkg'}", "--show", f"--showformat={form}"]
    try:
        asked = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageError(f"cannot read the list of installed packages: {error}") from error
    rows = [line.split("\t") for line in asked.stdout.splitlines()]
    packages = {name: version for status, name, version in rows if status == "installed"}
    if not packages:
        raise ImageError("cannot read the list of installed packages: there is none")
    return packages


def _write_settings(tree: Path) -> None:
    """What the first process of an unpacked guest finds in its image as well."""
    passwd = (tree / "etc/passwd").read_text()
    write_file(tree, "etc/passwd", re.sub(r"^(root:.*:).*$", rf"\1{SHELL}", passwd, flags=re.MULTILINE))
    write_file(tree, "etc/shells", f"{(tree / 'etc/shells').read_text()}{SHELL}\n")
    write_file(tree, "etc/hostname", "guest\n")
    write_file(tree, "etc/hosts", "127.0.0.1 localhost guest\n::1 localhost ip6-localhost\n")
    write_file(tree, "etc/resolv.conf", "nameserver 10.0.2.3\n")
    write_file(tree, "etc/machine-id", "")  # empty: systemd makes one up until the seed is read


def _date_passwords(tree: Path) -> None:
    """No account has a password. When it was last changed is the day of the release: today would change the digest."""
    day = released_s(tree) // _DAY_S
    for path in (tree / "etc/shadow", tree / "etc/shadow-"):
        if path.exists():  # written in place: it has an owner and a mode of its own
            path.write_text(re.sub(r"^((?:[^:\n]*:){2})\d*:", rf"\g<1>{day}:", path.read_text(), flags=re.MULTILINE))


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
