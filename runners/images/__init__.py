"""Disk images for guests: what they are called, how they are built, where they are kept."""

from runners.images.catalogue import Catalogue
from runners.images.disk import guest_disk, overlay
from runners.images.spec import Image, Manifest, key, recipe

__all__ = ["Catalogue", "Image", "Manifest", "guest_disk", "key", "overlay", "recipe"]
