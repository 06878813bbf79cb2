"""The lab: emulated machines in which real hypervisors run, for the tests."""
