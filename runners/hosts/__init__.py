"""The machines that hypervisors run on, this one or others: how they are reached, and what the farm keeps there."""
