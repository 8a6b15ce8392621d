"""Choose the device from the environment: where a stage runs is not a parameter, because it must not change results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stages.runtime.errors import UserError
from stages.runtime.memory import keep_freed_memory
from stages.runtime.workers import count_cores


def choose_device() -> torch.device:
    """Return the device in QUINTET_DEVICE ("cpu", "cuda", "cuda:1", "mps"); by default a GPU if there is one.

    The process then keeps memory that it frees, and PyTorch uses only the cores that a container may use (by itself it
    counts all cores of the machine).

    Raises:
        UserError: QUINTET_DEVICE is not a device, or this machine lacks it, or it is one GPU for several processes.
    """
    keep_freed_memory()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), count_cores()))
    name = os.environ.get("QUINTET_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"  # torchrun numbers the processes of a machine; one GPU each
    elif name.startswith("cuda:") and int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > 1:
        raise UserError(
            f"QUINTET_DEVICE={name}: expected one GPU for each of several processes, found a single GPU; unset "
            "QUINTET_DEVICE and choose GPUs with CUDA_VISIBLE_DEVICES"
        )
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"QUINTET_DEVICE={name}: this machine has no such device ({reason}); set it to cpu, or unset it"
        ) from None


def computes_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; emulation is several times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return any(able.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return True


def prepare_for_training(device: torch.device) -> None:
    """Let a GPU use TF32 for float32, and only those kernels of cuDNN that repeat their bits."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True


@contextmanager
def in_exact_float32() -> Iterator[None]:
    """Let a GPU compute in real float32, without TF32: scores should not depend on the device."""
    kept = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept[0]
        torch.set_float32_matmul_precision(kept[1])
