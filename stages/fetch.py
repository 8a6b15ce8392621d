"""Download pretrained weights of timm, without the classifier.

    python -m stages.fetch TIMM_NAME WEIGHTS_FILE

Needs a network once; afterwards DVC tracks the file like any other. Some weights require that you accept a licence on
the hub first, and identify yourself with HF_TOKEN or `hf auth login`.
"""

import argparse
import difflib
import logging
import socket
from pathlib import Path
from typing import Any

from stages.runtime.errors import UserError
from stages.runtime.process import REMEDIES, run_stage

TIMEOUT_S = 5  # without an answer; the hub's client asks six times, with pauses, for a minute


def fetch_network(timm_name: str) -> Any:
    """Return timm's pretrained network.

    Raises:
        UserError: timm has no such weights, or the download failed.
        OSError: the disk is full or read-only.
    """
    import timm
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError
    from safetensors import SafetensorError

    if not timm.is_model_pretrained(timm_name):
        near = difflib.get_close_matches(timm_name, timm.list_pretrained(), n=3)
        raise UserError(
            f"{timm_name}: timm has no weights with this name; "
            + (f"did you mean {' or '.join(near)}?" if near else "timm.list_pretrained() returns all names")
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each retry
    socket.setdefaulttimeout(6 * TIMEOUT_S)  # for files that are not on the hub, which are requested once
    timm.models.set_pretrained_check_hash()  # the file name contains it; otherwise half a file may stay in the cache
    config = timm.get_pretrained_cfg(timm_name)
    where = f"{constants.ENDPOINT}/{config.hf_hub_id}" if config.hf_hub_id else config.url
    print(f"fetch: {timm_name} from {where}", flush=True)
    try:
        _ask_hub(config.hf_hub_id)
        return timm.create_model(timm_name, pretrained=True)
    except (OSError, HTTPError, RuntimeError, LookupError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno in REMEDIES:
            raise
        raise UserError(
            f"{timm_name}: the download from {where} failed: {_explain(error)}, or name another file as `weights` of "
            "the model in params.yaml"
        ) from None


def _ask_hub(repository: str | None) -> None:
    """Ask the hub for the size of the weights, which fails within a minute; the download itself may take longer.

    Without this, timm's loader waits for a hub that does not answer, six times a minute for each of two names.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    name = "model.safetensors"
    if repository and not try_to_load_from_cache(repository, name):
        try:
            get_hf_file_metadata(hf_hub_url(repository, name), timeout=TIMEOUT_S, retry_on_errors=True)
        except RemoteEntryNotFoundError:
            return  # older files have another name


def _explain(error: Exception) -> str:
    """Describe the error and what to do."""
    from huggingface_hub.errors import HTTPError

    status = getattr(getattr(error, "response", None), "status_code", getattr(error, "code", None))
    if status in (401, 403):
        return f"access denied ({status}); accept the licence on that page, and set HF_TOKEN or run `hf auth login`"
    if status == 404:
        return "the file does not exist (404); choose other weights"
    if status:
        return f"the server answered with error {status}; try again later"
    if isinstance(error, (OSError, HTTPError)):
        return f"no complete answer ({type(error).__name__}); check the network and try again"
    return f"the file does not fit this network ({' '.join(str(error).split()):.200}); try again, choose other weights"


def leave_out_classifier(state: dict[str, Any], names: str | list[str] | tuple[str, ...] | None) -> dict[str, Any]:
    """Return a state dict without the classifier.

    Args:
        names: as in timm's configurations: of one layer, of the two layers of a distilled network, or None.
    """
    classifiers = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names or ()))
    return {name: tensor for name, tensor in state.items() if not name.startswith(classifiers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("timm_name", help="name of the weights, as in timm.list_pretrained()")
    parser.add_argument("weights_file", type=Path, help="safetensors file to write")
    arguments = parser.parse_args()
    network = fetch_network(arguments.timm_name)
    from stages.networks.start_weights import Origin, write_start_weights

    config = network.pretrained_cfg
    weights = leave_out_classifier(network.state_dict(), config.get("classifier"))
    licence = f" ({config['license']})" if config.get("license") else ""
    origin = Origin(f"timm {arguments.timm_name}{licence}", config["mean"], config["std"])
    write_start_weights(arguments.weights_file, weights, origin)


if __name__ == "__main__":
    run_stage(main)
