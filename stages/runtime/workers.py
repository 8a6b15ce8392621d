"""Use all cores: a pool of processes that ends with this process, and results in order."""

import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from stages.runtime.errors import UserError
from stages.runtime.memory import keep_freed_memory
from stages.runtime.process import end_with_parent

TASKS_PER_WORKER = 8  # handed out at a time

Task = TypeVar("Task")
Result = TypeVar("Result")


def count_cores() -> int:
    """Return how many cores this process may use; on a shared machine or in a container, not all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warning about missing shared memory for locks
        import joblib  # slow import

    return joblib.cpu_count()


def can_share_locks() -> bool:
    """Return whether processes can share locks, as a pool needs them; some containers have no /dev/shm for that."""
    try:
        multiprocessing.Lock()
    except (OSError, ImportError):
        return False
    return True


@contextmanager
def open_pool(n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of processes that end with this process; errors and signals cancel the waiting tasks."""
    with ProcessPoolExecutor(n_workers, initializer=_start_worker) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            for worker in multiprocessing.active_children():
                worker.kill()  # the pool waits for the remaining workers, which ignore SIGTERM
            raise
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker() -> None:
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)  # the parent handles it
    end_with_parent(signal.SIGKILL)
    keep_freed_memory()


def spread(function: Callable[[Task], Result], tasks: Iterable[Task], n_at_once: int = 1) -> Iterator[Result]:
    """Apply a function to tasks on all cores, or on one if processes cannot share locks; results keep the tasks' order.

    New tasks start only as results are consumed, so that memory holds a few tasks per core.

    Args:
        n_at_once: how many tasks a worker gets at once; handing out small tasks one by one would take longer than them.
    Raises:
        UserError: a worker was killed. Errors of the function are raised as well.
    """
    if not can_share_locks():
        yield from map(function, tasks)
        return
    n_workers = count_cores()
    waiting: deque[Future[list[Result]]] = deque()
    remaining = iter(tasks)
    try:
        with open_pool(n_workers) as pool:
            while some := list(islice(remaining, n_at_once)):
                waiting.append(pool.submit(_apply, function, some))
                if len(waiting) >= TASKS_PER_WORKER * n_workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, probably because memory ran out; free some memory, and run again"
        ) from None


def _apply(function: Callable[[Task], Result], tasks: list[Task]) -> list[Result]:
    return [function(task) for task in tasks]
