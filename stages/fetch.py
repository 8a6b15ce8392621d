"""A timm model's name (from params.yaml) in; its ImageNet weights, without the classifier, out as safetensors.

    python -m stages.fetch BACKBONE WEIGHTS_FILE

BACKBONE is vgg19 or resnet50. Needs a network, once: the file is tracked like any other from then on.
"""

import argparse
import logging
from pathlib import Path

from safetensors.torch import save

from stages.runtime.errors import UserError
from stages.runtime.files import written_whole
from stages.runtime.process import REMEDIES, run_stage
from stages.settings.reading import read_config


def fetch_weights(timm_name: str) -> dict:
    """Return the state dict of timm's pretrained model, its classifier left out.

    Raises:
        UserError: timm knows no such weights, or they could not be downloaded.
        OSError: the disk is full, or not to be written to.
    """
    import timm

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it retries by itself, and logs each try
    print(f"fetch: {timm_name} from timm's model hub", flush=True)
    if timm_name not in timm.list_pretrained():
        raise UserError(f"imagenet: timm has no weights called {timm_name!r}; see timm.list_pretrained()")
    try:
        network = timm.create_model(timm_name, pretrained=True)
    except (OSError, RuntimeError) as error:  # what the hub's client raises without a network
        if isinstance(error, OSError) and error.errno in REMEDIES:
            raise
        raise UserError(
            f"{timm_name}: the download failed ({type(error).__name__}); set `weights` to data/weights/drawn, which "
            "needs no network, or to a folder of your own with vgg19.safetensors and resnet50.safetensors"
        ) from None
    classifier = ("pre_logits.", "head.", "fc.")
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(classifier)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=("vgg19", "resnet50"))
    parser.add_argument("weights_file", type=Path)
    arguments = parser.parse_args()
    timm_name = getattr(read_config().imagenet, arguments.backbone)
    with written_whole(arguments.weights_file) as temporary:
        temporary.touch()  # a folder that cannot be written to is known before the download
        # save_file would hide whether the disk is full
        temporary.write_bytes(save(fetch_weights(timm_name), metadata={"source": f"timm {timm_name}"}))


if __name__ == "__main__":
    run_stage(main)
