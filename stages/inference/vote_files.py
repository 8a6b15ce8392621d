"""The file vote.json: how the ensemble combines its members. Together with the model files it is all that is needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.runtime.validation import read_json
from stages.scoring.voting import VOTES, LogarithmicPool, Vote

Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class VoteFile(BaseModel, extra="forbid"):
    """The members, with the temperature that each uses alone, and the kind and parameters of the ensemble."""

    voting: Literal[*VOTES]
    members: Annotated[dict[str, Temperature], Field(min_length=1)]
    weights: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    temperatures: list[Temperature] | None = None  # for a linear pool

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
        """Return the parameters of the vote by name."""
        return self.model_dump(exclude={"voting", "members"}, exclude_none=True)


def write_vote(path: Path, kind: str, vote: Vote, members: Mapping[str, float]) -> None:
    """Write the members and the vote, with all digits.

    Args:
        members: {name: temperature that the member uses alone}.
    """
    write_json(path, {"voting": kind, "members": members, **{key: part.tolist() for key, part in vars(vote).items()}})


def read_vote(path: Path) -> tuple[list[str], Vote]:
    """Return the names of the members, and the vote, which expects their probabilities in that order.

    Raises:
        UserError: the file is missing, truncated or written by another version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dvc repro ensemble`, or ask a single model with --model")
    content = _read(path)
    vote = VOTES[content.voting](**{key: np.array(part) for key, part in content.parts().items()})
    return list(content.members), vote


def read_lone_vote(path: Path, name: str) -> Vote | None:
    """Return the vote of a single member: its probabilities at its temperature; None if the temperature is unknown.

    Raises:
        UserError: the file is truncated or written by another version.
    """
    members = _read(path).members if path.is_file() else {}
    return LogarithmicPool(np.array([1 / members[name]])) if name in members else None


def _read(path: Path) -> VoteFile:
    expected = f"the members and weights of an ensemble ({', '.join(VoteFile.model_fields)})"
    remedy = "get the file again together with its models (`dvc pull`, `dvc artifacts get`), check out the revision"
    return read_json(path, VoteFile, expected, f"{remedy} that wrote it, or run `dvc repro ensemble`")
