"""The parameter file in, a typed and frozen configuration out; a mistake in it is named by its full key.

Every stage reads the whole file, so that a mistake anywhere is found before any work. A stage uses only
the keys that dvc.yaml lists for it.
"""

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stages.shared.errors import UserError


def _number(value: Any) -> Any:
    """Read `1e-05` as a number: YAML 1.1 takes it for a string, and `dvc exp run -S` writes it so."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
ProperFraction = Annotated[Number, Field(gt=0, lt=1)]
Rate = Annotated[Number, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A block of params.yaml: frozen, every key required, no other key allowed, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Flowers(Section):
    """The embedded set: how many images of the 104 classes are drawn, and how."""

    seed: Seed
    n_images: Count
    min_images: Count
    size_px: Annotated[int, Field(ge=16)]


class Source(Section):
    """The drawn set that the default pretrained weights come from; its classes are none of the 104."""

    seed: Seed
    n_classes: Annotated[int, Field(ge=2)]
    images_per_class: Annotated[int, Field(ge=3)]
    size_px: Annotated[int, Field(ge=16)]


class Split(Section):
    """Fractions of each class; a folder that brings train/, val/ and test/ of its own keeps those."""

    seed: Seed
    train: ProperFraction
    val: ProperFraction
    test: ProperFraction

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        total = self.train + self.val + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train + val + test is {total:g}, expected 1")
        return self


class Pack(Section):
    """Stored size of the decoded images; the random crop is taken out of it."""

    stored_size_px: Annotated[int, Field(ge=16)]


class Augment(Section):
    """Random changes of the training images, drawn anew for every image in every epoch."""

    crop: bool
    flip: bool
    rotation_deg: Annotated[Number, Field(ge=0, le=180)]
    zoom: Rate
    shift: Rate
    colour: Rate
    policy: Literal["none", "randaugment", "trivialaugment"]


class Phase(Section):
    """The first epochs of a training at a learning rate of their own."""

    epochs: Count
    lr: Positive


class ModelSettings(Section):
    """How a network is trained; subclasses add the arguments of their network's `build_model`."""

    optimizer: Literal["adam", "adamw", "nadam", "radam", "rmsprop", "sgd", "lamb", "lion"]
    lr: Positive
    epsilon: Positive
    weight_decay: NonNegative
    batch_size: Annotated[int, Field(ge=2)]  # batch normalisation cannot learn from one image
    epochs: Count
    phases: list[Phase]
    rounds: Count
    schedule: Literal["none", "cosine"]
    warmup_epochs: CountOrZero
    patience: CountOrZero
    label_smoothing: Rate
    class_weights: Literal["none", "balanced"]
    gradient_clip: NonNegative
    mixup: NonNegative
    cutmix: NonNegative
    ema_decay: Rate
    sync_batch_norm: bool
    precision: Literal["bf16", "fp32"]
    compile: Literal["none", "default", "reduce-overhead"]

    @model_validator(mode="after")
    def _phases_fit(self) -> "ModelSettings":
        for key, n_epochs in (
            ("phases", sum(phase.epochs for phase in self.phases)),
            ("warmup_epochs", self.warmup_epochs),
        ):
            if n_epochs > self.epochs:
                raise ValueError(f"{key} takes {n_epochs} epochs, but epochs is {self.epochs}")
        return self

    def network(self) -> dict[str, Any]:
        """Return the keyword arguments of the network's `build_model`: the keys that are not about training."""
        training = FineTuneSettings if isinstance(self, FineTuneSettings) else ModelSettings
        return {key: value for key, value in self if key not in training.model_fields}


class OtherSettings(ModelSettings):
    """A model beyond the five: its further keys go to its own `build_model`, which knows them."""

    model_config = ConfigDict(extra="allow")


class CnnSettings(ModelSettings):
    filters: Count
    padding: Literal["same", "valid"]
    dense_units: Count
    dropout: Rate


class VggSettings(ModelSettings):
    batch_norm: bool
    dense_units: Count
    dropout: Rate


class FineTuneSettings(ModelSettings):
    """The head alone learns for the first `frozen_epochs`; then all layers, the backbone at `backbone_lr`.

    A phase's learning rate is the head's; the backbone's keeps the ratio of `backbone_lr` to `lr`.
    """

    frozen_epochs: CountOrZero
    backbone_lr: Positive

    @model_validator(mode="after")
    def _frozen_epochs_fit(self) -> "FineTuneSettings":
        if self.frozen_epochs > self.epochs:
            raise ValueError(f"frozen_epochs is {self.frozen_epochs}, but epochs is {self.epochs}")
        return self


class VggFineTuneSettings(FineTuneSettings, VggSettings):
    pass


_SETTINGS: dict[str, type[ModelSettings]] = {
    "cnn": CnnSettings,
    "vgg16": VggSettings,
    "resnet50": ModelSettings,
    "vgg19_pretrained": VggFineTuneSettings,
    "resnet50_pretrained": FineTuneSettings,
}


class Pretrain(Section):
    """How the backbones of `data/weights/drawn` are trained on the source set."""

    seed: Seed
    val: ProperFraction
    image_size_px: Annotated[int, Field(ge=16)]
    stored_size_px: Annotated[int, Field(ge=16)]
    augment: Augment
    vgg19: VggSettings
    resnet50: ModelSettings

    @model_validator(mode="after")
    def _stored_size_fits(self) -> "Pretrain":
        if self.stored_size_px < self.image_size_px:
            raise ValueError(
                f"pretrain.stored_size_px is {self.stored_size_px}, expected pretrain.image_size_px or more "
                f"({self.image_size_px})"
            )
        return self


class ImageNet(Section):
    """The timm names of the weights that `data/weights/imagenet` fetches."""

    vgg19: Literal["vgg19.tv_in1k", "vgg19_bn.tv_in1k"]
    resnet50: Annotated[str, Field(pattern=r"^resnet50\.")]


class Ensemble(Section):
    """The vote: who takes part, and with equal or fitted weights."""

    members: Annotated[list[str], Field(min_length=1)]
    voting: Literal["equal", "fitted"]


class Config(Section):
    """The whole of params.yaml."""

    seed: Seed
    images: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    image_size_px: Annotated[int, Field(ge=16)]
    flowers: Flowers
    source: Source
    split: Split
    pack: Pack
    augment: Augment
    models: Annotated[dict[str, ModelSettings], Field(min_length=1)]
    pretrain: Pretrain
    imagenet: ImageNet
    ensemble: Ensemble

    @model_validator(mode="after")
    def _blocks_fit(self) -> "Config":
        if self.pack.stored_size_px < self.image_size_px:
            stored = self.pack.stored_size_px
            raise ValueError(f"pack.stored_size_px is {stored}, expected image_size_px or more ({self.image_size_px})")
        members = self.ensemble.members
        for member in members:
            if member not in self.models:
                raise ValueError(f"ensemble.members: unknown model {member!r}{_nearest(member, self.models)}")
            if members.count(member) > 1:
                raise ValueError(f"ensemble.members: {member!r} stands there twice")
        return self


def _nearest(name: str, names: Any) -> str:
    if not names:
        return ""
    close = difflib.get_close_matches(str(name), [str(each) for each in names], n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of: {', '.join(map(str, names))}"


def _check(section: type[Section], block: Any, problems: list[str], prefix: str = "") -> Any:
    """Return the section; where the block is wrong, add what is wrong to `problems` and return None."""
    try:
        return section.model_validate(block)
    except ValidationError as error:
        # whether blocks fit one another is asked when each of them is right
        found = [problem for problem in error.errors() if problem["loc"] or prefix or not problems]
        problems += [_describe(section, problem, prefix) for problem in found]
        return None


def _describe(section: type[Section], problem: Any, prefix: str) -> str:
    """Say in words what pydantic found: the key's full name, what was expected, what was found."""
    *parents, key = problem["loc"] or ("",)
    full_key = (prefix + ".".join(map(str, problem["loc"]))).rstrip(".")
    if problem["type"] == "extra_forbidden":
        return f"{full_key}: unknown key{_nearest(key, _keys_at(section, parents))}"
    if problem["type"] == "missing":
        return f"{full_key}: missing key"
    reason = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if problem["type"] == "value_error":
        return f"{full_key}: {reason}" if full_key else reason
    return f"{full_key}: {reason}, found {problem['input']!r}"


def _keys_at(section: type[Section], parents: list[Any]) -> list[str]:
    for parent in parents:
        if isinstance(parent, int):  # a place in the list whose section was just reached
            continue
        annotation = section.model_fields[parent].annotation
        section = annotation.__args__[0] if hasattr(annotation, "__args__") else annotation
    return list(section.model_fields)


def read_config(path: Path | str = "params.yaml") -> Config:
    """Read and check the whole parameter file.

    Returns:
        The frozen configuration; `config.models[name]` is a ModelSettings, or the subclass that fits the name.
    Raises:
        UserError: the file is missing or no YAML, or a key is unknown, missing, of the wrong type or senseless;
            the message names every such key in full.
    """
    path = Path(path)
    try:
        block = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the repository's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(block, dict):
        raise UserError(f"{path}: expected a mapping of parameters, found {type(block).__name__}")
    problems: list[str] = []
    models = block.get("models")
    if isinstance(models, dict):
        checked = {str(name): _check_model(str(name), settings, problems) for name, settings in models.items()}
        block = {**block, "models": {name: model for name, model in checked.items() if model}}
    config = _check(Config, block, problems)
    if problems:
        raise UserError(f"{path}: " + "; ".join(problems))
    return config


def _check_model(name: str, settings: Any, problems: list[str]) -> ModelSettings | None:
    own_file = Path(__file__).parent.parent / "models" / f"{name}.py"
    if name not in _SETTINGS and not own_file.is_file():
        problems.append(f"models.{name}: unknown model{_nearest(name, _SETTINGS)}")
        return None
    return _check(_SETTINGS.get(name, OtherSettings), settings, problems, prefix=f"models.{name}.")
