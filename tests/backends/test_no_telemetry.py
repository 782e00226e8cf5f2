"""A node talks to nobody whom its settings do not name: not even to say that a library was imported."""

import subprocess
import sys

import pytest

_LOOK = """
import socket
def refuse(*arguments, **named):
    raise SystemExit(f"somebody looked up {arguments[:2]}")
socket.getaddrinfo = socket.create_connection = refuse
from workers.backends.openvino_runtime import openvino
openvino.Core()
import openvino.tools.ovc.telemetry_utils as utils
print(utils.tm.__name__)
"""


def test_openvino_is_imported_without_its_telemetry() -> None:
    pytest.importorskip("openvino")
    found = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
