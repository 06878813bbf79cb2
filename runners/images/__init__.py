"""Disk images for guests: what they are called, how they are built, where they are kept."""

from runners.images.catalogue import Catalogue, Configure
from runners.images.disk import check_size, guest_disk, overlay, raw_disk
from runners.images.spec import Image, Manifest, key, recipe

__all__ = [
    "Catalogue",
    "Configure",
    "Image",
    "Manifest",
    "check_size",
    "guest_disk",
    "key",
    "overlay",
    "raw_disk",
    "recipe",
]
