import subprocess
import sys
from pathlib import Path

from tests.support.processes import wait_for

PROGRAM = """
import os, time
from training.rendering import render_processes
if __name__ == "__main__":
    with render_processes() as processes:
        print(processes.submit(os.getpid).result(), flush=True)
        time.sleep(600)
"""


def test_a_training_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        assert child.exists()
    finally:
        parent.kill()
        parent.wait()
    wait_for("its process ends", lambda: not _runs(child))


def _runs(process: Path) -> bool:
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
