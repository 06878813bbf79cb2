"""Guests through libvirt: one lifecycle, and a table of the hypervisors' differences."""

import os

# The embedded driver would talk on standard error (its errors come as exceptions anyway); the library reads this when it is loaded.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
