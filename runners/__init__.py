"""What touches a guest; runs inside a Ray worker."""

import os

# The embedded hypervisor driver would talk on standard error, and its errors come as exceptions anyway.
# libvirt reads this when it is loaded, so before anything here can load it.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
