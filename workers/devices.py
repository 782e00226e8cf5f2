"""The devices that the settings mean, found without torch."""

import os
import subprocess


def choose_devices(wanted: str) -> list[str]:
    """The devices of the settings, one engine process each: ["cpu"] or ["cuda:0", ...].

    "auto" means every CUDA device that the driver lists and CUDA_VISIBLE_DEVICES leaves, else the CPU.
    """
    if wanted != "auto":
        return wanted.split(",")
    return [f"cuda:{number}" for number in range(_cuda_devices())] or ["cpu"]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _cuda_devices() -> int:
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 0
    present = sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA numbers what is visible from 0.
    return present if visible is None else min(present, len([name for name in visible.split(",") if name.strip()]))
