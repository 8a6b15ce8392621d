"""A training's state in, a file that outlives any kill out; and the state back, if it belongs to the same training.

The file is no output of a stage (DVC deletes those before it runs the stage again). It lies beside the model that it is
to become, and is gone when that is written.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from stages.runtime.errors import UserError
from stages.runtime.files import DirectFile, written_whole
from stages.training.processes import Processes

PATIENCE_S = 10  # an orphan of a killed `dvc` takes a moment to end


class Checkpoint:
    """One training's file.

    Attributes:
        fingerprint: what the training depends on, a hash for each kind; the state of another training is no use.
    """

    def __init__(self, path: Path, fingerprint: dict[str, str]):
        self.path, self.fingerprint = path, fingerprint
        self.aside = path.with_name(path.name + ".aside")
        self.memory: dict[tuple, torch.Tensor] = {}
        self.writer = ThreadPoolExecutor(1)
        self.pending: Future | None = None

    def read(self) -> tuple[dict[str, Any] | None, str]:
        """Return the state, if there is one that can be trusted, and a line that says what was found."""
        reasons = []
        for path in (self.path, self.aside):
            state, reason = self._read(path)
            if state:
                if path == self.aside:  # a parameter was changed, and changed back
                    self._swap()
                return state, f"goes on from {path}"
            reasons.append(reason)
        if not self.path.exists():
            return None, ""
        self.path.replace(self.aside)
        return None, f"{self.path} {reasons[0]}: set aside as {self.aside.name}; training starts afresh"

    def _read(self, path: Path) -> tuple[dict[str, Any] | None, str]:
        if not path.exists():
            return None, ""
        path.open("rb").close()  # a file that we may not read is no damaged one
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            state, fingerprint = content["state"], dict(content["fingerprint"])
            if hash_state(state) != content["hash"]:
                raise ValueError("its hash is another")
        except MemoryError:
            raise
        except Exception as error:  # damage has many faces, and none of them may end the run
            return None, f"is damaged ({type(error).__name__})"
        other = [kind for kind in self.fingerprint if fingerprint.get(kind) != self.fingerprint[kind]]
        return (None, f"belongs to a training with other {' and '.join(other)}") if other else (state, "")

    def _swap(self) -> None:
        between = self.path.with_name(self.path.name + ".between")
        self.aside.replace(between)
        if self.path.exists():
            self.path.replace(self.aside)
        between.replace(self.path)

    def write(self, state: dict[str, Any]) -> None:
        """Copy the state, and write the copy in the background while training goes on.

        Raises:
            OSError: the disk was full when the state before was written; the file is an older one then.
        """
        self.wait()
        content = {"fingerprint": self.fingerprint, "hash": hash_state(state), "state": self._copy(state)}
        self.pending = self.writer.submit(self._write, content)

    def _copy(self, value: Any, place: tuple = ()) -> Any:
        """Return the same with all tensors copied to the host, into the memory of the copy before."""
        if isinstance(value, torch.Tensor):
            kept = self.memory.get(place)
            if kept is None or kept.shape != value.shape or kept.dtype != value.dtype:
                kept = self.memory[place] = torch.empty_like(value, device="cpu")
            return kept.copy_(value)
        if isinstance(value, dict):
            return {key: self._copy(part, (*place, key)) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy(part, (*place, number)) for number, part in enumerate(value)]
        return value

    def _write(self, content: dict[str, Any]) -> None:
        torch.serialization.set_crc32_options(False)  # they take longer than all the rest
        try:
            with written_whole(self.path) as temporary, DirectFile(temporary) as file:
                torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None  # torch hides that the disk is full
            raise

    def wait(self) -> None:
        """Wait until the last state lies on the disk."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()

    def remove(self) -> None:
        """Remove the file: the training has ended. What was set aside stays; it is another's."""
        with suppress(OSError):  # the model is written: nobody needs this file any more
            self.wait()
        self.path.unlink(missing_ok=True)


def hash_state(state: Any) -> str:
    """Return the sha256 of all values, where a tensor counts by the sum of its words.

    The sum is taken at memory's speed, and tells cut files and wrong bits; it does not tell words that changed places.
    """
    return hashlib.sha256(repr(_outline(state)).encode()).hexdigest()


def _outline(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[state.element_size()]
        total = int(state.detach().view(words).sum(dtype=torch.int64))
        return str(state.dtype), tuple(state.shape), state.stride(), total
    if isinstance(state, dict):
        return [(key, _outline(value)) for key, value in state.items()]
    return [_outline(value) for value in state] if isinstance(state, list | tuple) else state


@contextmanager
def only_one(model_file: Path, processes: Processes) -> Iterator[None]:
    """Hold the right to train what is to become `model_file`; it ends with the process, however that ends.

    Of several processes that train together, the first holds it.

    Raises:
        UserError: another process holds it.
    """
    if not processes.is_first:
        yield
        return
    model_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(model_file.with_suffix(".lock"))
    try:
        with lock.acquire(timeout=PATIENCE_S):
            yield
    except Timeout:
        raise UserError(f"{lock.lock_file}: another process still trains this model; stop it, or wait") from None
