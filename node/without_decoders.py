"""Imported first by a process that receives and decodes nothing: pydicom imports every decoder that it finds, 20 MB.

A module that is None in sys.modules cannot be imported (the import system's reference, 5.3.1): as on a host with the
node alone.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
for _name in ("gdcm", "pylibjpeg", "openjpeg", "libjpeg"):
    _modules.setdefault(_name, None)
