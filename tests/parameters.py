"""The committed default parameters (PARAMS), and functions that change some keys for a test."""

import copy
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.repository import ROOT

PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
MISSING = object()


def change_params(**changes: Any) -> dict:
    """Return a copy of PARAMS with some keys changed, added or MISSING: models__cnn__lr is models.cnn.lr."""
    params = copy.deepcopy(PARAMS)
    for full_key, value in changes.items():
        *parents, key = full_key.split("__")
        block = params
        for parent in parents:
            block = block[parent]
        block[key] = value
        if value is MISSING:
            del block[key]
    return params


def write_params(path: Path, **changes: Any) -> Path:
    """Write changed parameters as JSON, which is valid YAML (except NaN)."""
    path.write_text(json.dumps(change_params(**changes)), encoding="utf-8")
    return path
