"""Train one network in several processes.

The default is one process. torchrun's environment variables or QUINTET_PROCESSES ask for several. Each process then
computes its share of every batch, and torch.distributed averages the gradients.
"""

import atexit
import os
import signal
import sys
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from stages.runtime.errors import UserError
from stages.runtime.process import Terminated
from stages.runtime.workers import count_cores

TIMEOUT = timedelta(minutes=10)  # how long a process waits for the others in a step


@dataclass(frozen=True)
class Processes:
    """Number of processes, and the rank of this one; the process with rank 0 prints and writes."""

    rank: int = 0
    count: int = 1
    patient: distributed.ProcessGroup | None = None  # the same processes, with a timeout of hours

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share_of(self, start: int, end: int) -> slice:
        """Return this process's part of the rows start..end; the parts differ by at most one row."""
        n_rows = end - start
        return slice(start + n_rows * self.rank // self.count, start + n_rows * (self.rank + 1) // self.count)

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def tell_all(self, value: object) -> object:
        """Send the first process's value to all; they wait for hours, because it may hash a large pack before."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]


ALONE = Processes()


def join_processes(device: torch.device) -> Processes:
    """Connect to the other processes that torchrun started, if any: through NCCL on GPUs, through gloo on CPUs.

    A process that ends without an error leaves the group. A process that fails must exit at once, as in `run_stage`.
    """
    if "WORLD_SIZE" not in os.environ:
        return ALONE
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    patient = distributed.new_group(backend="gloo", timeout=timedelta(hours=12))
    atexit.register(distributed.destroy_process_group)
    return Processes(distributed.get_rank(), distributed.get_world_size(), patient)


def spread_out(module: str) -> None:
    """If QUINTET_PROCESSES is set, run `module` with this command line in several processes, and exit.

    QUINTET_PROCESSES is a number, or `gpu` for one process per GPU. Inside such a process this does nothing.

    Raises:
        UserError: QUINTET_PROCESSES has another value, or there is no GPU.
    """
    wanted = os.environ.get("QUINTET_PROCESSES", "")
    if not wanted or "WORLD_SIZE" in os.environ:
        return
    count = torch.cuda.device_count() if wanted == "gpu" else int(wanted) if wanted.isdecimal() else 0
    if count < 1:
        found = "this machine has no GPU" if wanted == "gpu" else f"found {wanted!r}"
        raise UserError(f"QUINTET_PROCESSES: expected a number of processes, or gpu for one process per GPU; {found}")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // count)))
    config = LaunchConfig(1, 1, count, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0)
    try:
        elastic_launch(config, sys.executable)("-m", module, *sys.argv[1:])
    except ChildFailedError as error:  # the process that failed first has printed the reason
        rank, failure = error.get_first_failure()
        print(f"error: process {rank} of {count} ended with exit code {failure.exitcode}", file=sys.stderr)
        sys.exit(failure.exitcode if failure.exitcode > 0 else 1)
    except SignalException as error:
        raise (Terminated if error.sigval == signal.SIGTERM else KeyboardInterrupt) from None
    sys.exit(0)
