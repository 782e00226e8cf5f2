"""Imported by the fork server before it forks engine processes: they find torch and the networks there.

Imports only. A computation would start OpenMP's threads, and CUDA a context, and neither survives a fork.
"""

import os
from importlib import import_module

# Threads of OpenMP that spin while they wait take the cores that decode the next image; read when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

for _module in ("workers.bundle", "workers.backends.choice", "workers.engine_process"):
    import_module(_module)
