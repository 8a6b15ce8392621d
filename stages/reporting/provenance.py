"""The origin of the results: parameters compared with the default recipe, versions, data, rejected files."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

N_LISTED = 60  # rejected files and groups of copies on the page


def read_parameters(path: Path) -> dict[str, Any]:
    """Read a parameter file as it is; earlier stages have checked it."""
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def compare_parameters(params: Path, default: Path) -> list[dict[str, Any]]:
    """List all parameters, those that differ from the default recipe first.

    Returns:
        A dict per parameter: key, value, default (both as text, "" if missing), differs.
    """
    ours, theirs = (flatten(read_parameters(path)) for path in (params, default))
    rows = [
        {
            "key": key,
            "value": _spell(ours, key),
            "default": _spell(theirs, key),
            "differs": key not in ours or key not in theirs or ours[key] != theirs[key],
        }
        for key in {**ours, **theirs}
    ]
    return sorted(rows, key=lambda row: not row["differs"])


def flatten(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return {full key: value}: `models: {cnn: {lr: 1}}` becomes {"models.cnn.lr": 1}."""
    return pd.json_normalize(parameters).to_dict("records")[0]


def _spell(values: dict[str, Any], key: str) -> str:
    value = values.get(key, "")
    return value if isinstance(value, str) else json.dumps(value)


def list_copies(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """List the groups of copies, the largest first: split, paths."""
    groups = manifest[manifest.duplicated("group", keep=False)].groupby("group", sort=False)
    rows = [{"split": "/".join(sorted(set(each["split"]))), "paths": each["path"].tolist()} for _, each in groups]
    return sorted(rows, key=lambda row: -len(row["paths"]))


def trace(data: Path, params: Path, default: Path) -> dict[str, Any]:
    """Return the content of the section on provenance."""
    manifest = pd.read_csv(data / "manifest.csv", keep_default_na=False, dtype=str)
    rejected = pd.read_csv(data / "rejected.csv", keep_default_na=False, dtype=str).to_dict("records")
    versions = (data / "code" / "versions.txt").read_text("utf-8").splitlines()
    copies, parameters = list_copies(manifest), compare_parameters(params, default)
    return {
        "parameters": parameters,
        "n_changed": sum(row["differs"] for row in parameters),
        "versions": dict(line.split(" ", 1) for line in versions),
        "fingerprint": sha256((data / "manifest.csv").read_bytes()).hexdigest()[:16],
        "n_rejected": len(rejected),
        "rejected": rejected[:N_LISTED],
        "n_groups": len(copies),
        "copies": copies[:N_LISTED],
    }
