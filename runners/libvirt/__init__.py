"""Guests through libvirt: one lifecycle, and a table of the hypervisors' differences."""
