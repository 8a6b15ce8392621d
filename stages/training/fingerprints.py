"""What a training depends on in, a hash of each out."""

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from stages.pixels.packed_splits import Pack


def hash_value(value: object) -> str:
    """Return the sha256 of settings, numbers and lists of them."""
    text = json.dumps(value, default=lambda section: section.model_dump(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_code() -> str:
    """Return the sha256 of every module under stages/ that this process has imported, and what it runs on."""
    versions = torch.__version__, version("torchvision"), version("timm")
    digest = hashlib.sha256(repr(versions).encode())
    # the stage itself is imported as __main__; its spec knows its name
    ours = [module.__spec__ for name, module in sys.modules.items() if name.startswith(("stages.", "__main__"))]
    files = {spec.name: spec.origin for spec in ours if spec and spec.name.startswith("stages.") and spec.has_location}
    for name in sorted(files):
        digest.update(Path(files[name]).read_bytes())
    return digest.hexdigest()


def hash_pack(pack: Pack) -> str:
    """Return the sha256 of a pack's pixels and labels."""
    digest = hashlib.sha256(repr(pack.images.shape).encode())
    digest.update(pack.images)
    digest.update(pack.labels)
    return digest.hexdigest()


def hash_weights(network: nn.Module) -> str:
    """Return the sha256 of a network's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()
