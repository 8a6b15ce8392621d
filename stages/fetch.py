"""Fetch a network's pretrained weights, without its classifier, by the name that timm gives them.

    python -m stages.fetch TIMM_NAME WEIGHTS_FILE

Needs a network, once: the file is tracked like any other from then on.
"""

import argparse
import difflib
import logging
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.files import written_whole
from stages.runtime.process import REMEDIES, run_stage


def fetch_weights(timm_name: str) -> dict:
    """Return the state dict of timm's pretrained network, its classifier left out.

    Raises:
        UserError: timm knows no such weights, or they could not be downloaded.
        OSError: the disk is full, or not to be written to.
    """
    import timm

    if not timm.is_model_pretrained(timm_name):
        near = difflib.get_close_matches(timm_name, timm.list_pretrained(), n=3)
        raise UserError(f"{timm_name}: timm has no weights of this name; nearest: {', '.join(near) or 'none'}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it retries by itself, and logs each try
    print(f"fetch: {timm_name} from timm's model hub", flush=True)
    try:
        network = timm.create_model(timm_name, pretrained=True)
    except (OSError, RuntimeError) as error:  # what the hub's client raises without a network
        if isinstance(error, OSError) and error.errno in REMEDIES:
            raise
        raise UserError(
            f"{timm_name}: the download failed ({type(error).__name__}); try again with a network, or let the model's "
            "`weights` in params.yaml name another file"
        ) from None
    names = network.pretrained_cfg["classifier"]  # a distilled network has two
    classifiers = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(classifiers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("timm_name", help="as in timm.list_pretrained()")
    parser.add_argument("weights_file", type=Path, help="safetensors file to write")
    arguments = parser.parse_args()
    weights = fetch_weights(arguments.timm_name)
    from safetensors.torch import save

    with written_whole(arguments.weights_file) as temporary:
        # save_file would hide whether the disk is full
        temporary.write_bytes(save(weights, metadata={"source": f"timm {arguments.timm_name}"}))


if __name__ == "__main__":
    run_stage(main)
