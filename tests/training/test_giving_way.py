"""A training worker on the host of a node takes nothing that others want, although each is a session of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import wait_for

#: Until the test is over, also when it is killed.
BURN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
TRAIN = f"from training.runs.giving_way import give_way\ngive_way()\n{BURN}"
#: CPU time that the other one gets before it is compared.
SECONDS = 2.0


def cpu_seconds(process: "subprocess.Popen[bytes]") -> float:
    """Of its own so far."""
    fields = (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_training_gives_way_to_processes_of_other_sessions() -> None:
    core = min(os.sched_getaffinity(0))
    processes = [subprocess.Popen([sys.executable, "-c", program], start_new_session=True) for program in (TRAIN, BURN)]
    training, other = processes
    try:
        wait_for("it gives way", lambda: os.getpriority(os.PRIO_PROCESS, training.pid) == 19, 120)
        for process in processes:
            os.sched_setaffinity(process.pid, {core})
        before, start = cpu_seconds(training), cpu_seconds(other)
        wait_for("the other one works", lambda: cpu_seconds(other) - start > SECONDS, 240)
        assert cpu_seconds(training) - before < SECONDS / 4
    finally:
        for process in processes:
            process.kill()
            process.wait()
