"""A vote in a file, vote.json: with the members' model files, all that an answer needs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.runtime.validation import describe_faults
from stages.scoring.voting import VOTES, LogarithmicPool, Vote

Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class VoteFile(BaseModel, extra="forbid"):
    """Who votes and how: the members with the temperature at which each answers alone, and the vote's own numbers."""

    voting: Literal[*VOTES]
    members: Annotated[dict[str, Temperature], Field(min_length=1)]
    weights: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    temperatures: list[Temperature] | None = None  # of a linear pool

    @model_validator(mode="after")
    def _is_whole(self) -> "VoteFile":
        parts, wanted = self.parts(), VOTES[self.voting].__dataclass_fields__
        if parts.keys() != wanted.keys():
            raise ValueError(f"the keys {', '.join(parts)}, but a {self.voting} has {', '.join(wanted)}")
        if any(len(part) != len(self.members) for part in parts.values()):
            raise ValueError(f"{len(self.members)} members, but another number of {' or '.join(parts)}")
        if not any(self.weights):
            raise ValueError("only weights of 0")
        return self

    def parts(self) -> dict[str, list[float]]:
        """Return the vote's own numbers, by their names there."""
        return self.model_dump(exclude={"voting", "members"}, exclude_none=True)


def write_vote(path: Path, kind: str, vote: Vote, members: Mapping[str, float]) -> None:
    """Write who votes and how, to the last bit.

    Args:
        members: the temperature at which each answers alone.
    """
    write_json(path, {"voting": kind, "members": members, **{key: part.tolist() for key, part in vars(vote).items()}})


def read_vote(path: Path) -> tuple[list[str], Vote]:
    """Return the members' names, and the vote that takes their probabilities in that order.

    Raises:
        UserError: there is no such file, it is cut short, or another version has written it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro ensemble`, or ask a single model with --model")
    content = _read(path)
    vote = VOTES[content.voting](**{key: np.array(part) for key, part in content.parts().items()})
    return list(content.members), vote


def read_lone_vote(path: Path, name: str) -> Vote | None:
    """Return the vote of a member alone, which is its probabilities at its temperature; None where that is unknown.

    Raises:
        UserError: the file is cut short, or another version has written it.
    """
    members = _read(path).members if path.is_file() else {}
    return LogarithmicPool(np.array([1 / members[name]])) if name in members else None


def _read(path: Path) -> VoteFile:
    try:
        return VoteFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        fault = describe_faults(error)
    except ValueError as error:
        fault = f"invalid JSON ({error})"
    raise UserError(
        f"{path}: expected the members and weights of an ensemble ({', '.join(VoteFile.model_fields)}), as this "
        f"version of Quintet writes them, found {fault}; get the file again together with its models (`dvc pull`, `dvc "
        "artifacts get`), check out the revision that wrote it, or run `dvc repro ensemble`"
    )
