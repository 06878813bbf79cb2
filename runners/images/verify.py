"""Whether an image is still what was built."""

from __future__ import annotations

from runners.guest import Work
from runners.images.digest import file_digests
from runners.images.spec import Image


def verify(image: Image) -> Work[tuple[str, ...]]:
    """What is wrong with the files of an image: a sentence for each, and none where they are as they were built.

    Whoever calls holds the image.
    """
    wrong = []
    for name, built in image.manifest.files.items():
        try:
            found = yield from file_digests(image.folder, [name])
        except FileNotFoundError:
            wrong.append(f"its {name} is not there")
        except OSError as error:
            wrong.append(f"its {name} cannot be read: {error.strerror}")
        else:
            if found[name] != built:
                wrong.append(f"its {name} has changed: sha256 {found[name]}, built with {built}")
    return tuple(wrong)
