"""Guests in Bochs, an emulator of whole PCs that libvirt does not know: its CPU models have what QEMU's have not."""
