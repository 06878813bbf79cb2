"""What all tests share."""

from hypothesis import HealthCheck, settings

# How fast a machine makes examples says nothing about the farm: no deadlines, on no machine.
settings.register_profile("farm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("farm")
