"""Checkpoints: the state of a training after each epoch, from which a killed training resumes.

A checkpoint is not an output of a stage, because DVC deletes outputs before it runs the stage again. Its name is a hash
of everything the training depends on. Every copy of the repository finds it (checkpoint_folder.py).
"""

import hashlib
import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from stages.runtime.errors import UserError
from stages.runtime.files import written_whole
from stages.training.checkpoint_folder import clean, mark_finished
from stages.training.job import Job


def open_checkpoint(folder: Path, network: nn.Module, job: Job) -> "Checkpoint":
    """Return the checkpoint of exactly this training; if another process runs the same training, wait for it.

    A training with another learning rate or other pixels has another checkpoint.

    Args:
        folder: folder of all checkpoints.
        network: the network with its initial weights.
    """
    settings = [section.model_dump() for section in (job.settings, job.augment)]
    text = json.dumps(
        [torch.__version__, job.code, *settings, job.seed, job.n_classes, job.view.size_px], sort_keys=True
    )
    digest = hashlib.sha256(text.encode())
    for split in (job.train, job.val):
        digest.update(repr(split.images.shape).encode())
        digest.update(split.images)
        digest.update(split.labels)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return Checkpoint(folder, digest.hexdigest()[:16])


class Checkpoint:
    """The checkpoint file of one training, `<fingerprint>.checkpoint`, and a lock for one process at a time.

    The system releases the lock of a process that dies. A process that waited for a finished training uses its weights.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.memory: dict[tuple, torch.Tensor] = {}
        self.writer = ThreadPoolExecutor(1)
        self.pending: Future | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.lock_file = folder / f"{fingerprint}.lock"
        self.lock = FileLock(self.lock_file)
        try:
            self.lock.acquire(blocking=False)
        except Timeout:
            print(f"{self.lock_file}: another process runs this training; waiting for its end", flush=True)
            self.lock.acquire(poll_interval=0.2)
        finished = next(folder.glob(f"{fingerprint}.*.checkpoint"), None)
        self.path = finished or folder / f"{fingerprint}.checkpoint"
        for path in folder.glob(f"{fingerprint}.*"):
            path.touch()
        clean(folder)

    def read(self) -> dict[str, Any] | None:
        """Return the state, or None if there is no file.

        Raises:
            UserError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError) as error:
            raise UserError(
                f"{self.path}: the checkpoint is damaged ({error}); delete this file, and run the same command again"
            ) from None

    def write(self, state: dict[str, Any]) -> None:
        """Copy the state, and write the copy in the background while the training continues.

        Raises:
            OSError: the disk was full when the previous state was written; the file then contains an older state.
        """
        self.wait()
        self.pending = self.writer.submit(self._write, self._copy(state))

    def _copy(self, value: Any, place: tuple = ()) -> Any:
        """Copy all tensors to the host, into the memory of the previous copy."""
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

    def _write(self, state: dict[str, Any]) -> None:
        torch.serialization.set_crc32_options(False)  # checksums take longer than everything else
        try:
            with written_whole(self.path) as temporary, temporary.open("wb") as file:
                torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None  # torch hides that the disk is full
            raise

    def wait(self) -> None:
        """Wait until the last state is on the disk."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()

    def finish(self, model_file: Path) -> None:
        """Mark the training as finished and release the lock; call this once the model file is written."""
        mark_finished(self.path, model_file)
        self.release()

    def release(self) -> None:
        """Release the lock, so that another process can use the file."""
        self.lock_file.unlink(missing_ok=True)  # a waiting process notices this and creates a new one
        self.lock.release()
