"""How slow a guest is: the same work, done for the same time in the guest and natively on its host.

It is found out once for each host, architecture, hypervisor and CPU model, by the first attempt that has such a
guest, and kept. Nothing that goes wrong here is the attempt's fault, or ends it.
"""
