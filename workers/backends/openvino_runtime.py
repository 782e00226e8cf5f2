"""OpenVINO without its telemetry, which tells Google Analytics of every import unless it is absent.

A hospital's node talks to nobody who was not named in its settings. Import `openvino` from here, never directly.
"""

import sys

# An entry of None makes the import fail: OpenVINO then takes the stub that it has for this case.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

__all__ = ["openvino"]
