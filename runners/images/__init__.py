"""Disk images for guests: what they are called, how they are built, where they are kept."""

from runners.images.catalogue import Catalogue, Configure
from runners.images.disk import guest_disk, overlay
from runners.images.spec import Image, Manifest, key, recipe

__all__ = ["Catalogue", "Configure", "Image", "Manifest", "guest_disk", "key", "overlay", "recipe"]
