"""The blocks of params.yaml as frozen types, each value with what is allowed; dvc.yaml says which stage uses what."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stages.runtime.errors import UserError

N_FLOWER_CLASSES = 104  # of the embedded set: stages/drawing/flower_classes.csv
MIN_SIZE_VALID_PX = 76  # of the small CNN without padding: stages/models/cnn.py
MIN_SIZE_VGG_PX = 32  # five poolings halve the image, and one pixel has to be left
DRAWN, IMAGENET = "data/weights/drawn", "data/weights/imagenet"
_WRITTEN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PATH = r"^[^-'\p{Cc}\p{Zl}\p{Zp}][^'\p{Cc}\p{Zl}\p{Zp}]*$"


def _number(value: Any) -> Any:
    """Read `1e-05` as a number: YAML 1.1 takes it for a string, and `dvc exp run -S` writes it so."""
    return float(value) if isinstance(value, str) and _WRITTEN_NUMBER.fullmatch(value) else value


def _mixable(value: float) -> float:
    """Refuse what torch's Beta distribution takes for zero, or draws nothing but one half from."""
    if 0 < value < 0.001:
        raise PydanticCustomError("too_small", "too small")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
ProperFraction = Annotated[Number, Field(gt=0, lt=1)]
Rate = Annotated[Number, Field(ge=0, lt=1)]
# the bounds are those of float32: below them nothing moves, or is divided by zero; above them all flies off
LearningRate = Annotated[Number, Field(ge=1e-12, le=100)]
Epsilon = Annotated[Number, Field(ge=1e-30, le=100)]
Decay = Annotated[Number, Field(ge=0, le=100)]
Clip = Annotated[Number, Field(ge=0, le=1_000_000)]
MixingStrength = Annotated[
    Number, Field(ge=0, le=100, description="0, or a number from 0.001 to 100"), AfterValidator(_mixable)
]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Pixels = Annotated[int, Field(ge=16, le=4096)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
EpochsOrZero = Annotated[int, Field(ge=0, le=100_000)]
Units = Annotated[int, Field(ge=1, le=65_536)]
Folder = Annotated[
    str,
    Field(
        pattern=_PATH,
        max_length=1000,
        description="the path of a folder, no ' or line break in it, no - before it, and 1000 characters at most, "
        "since it stands in the commands of dvc.yaml",
    ),
]


class Section(BaseModel):
    """A block of params.yaml: frozen, every key required, no other key allowed, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def check_shares(n_classes: int, n_images: int, min_images: int) -> None:
    """Refuse fewer drawn images than the classes' minimum needs.

    Raises:
        UserError: n_images is too small.
    """
    if n_images < n_classes * min_images:
        raise UserError(
            f"flowers.n_images is {n_images}, but {n_classes} classes of at least flowers.min_images = {min_images} "
            f"need {n_classes * min_images}; raise the one or lower the other"
        )


class Flowers(Section):
    """The embedded set: how many images of the 104 classes are drawn, and how."""

    seed: Seed
    min_images: Annotated[int, Field(ge=1, le=100_000)]
    n_images: Annotated[int, Field(ge=N_FLOWER_CLASSES, le=100_000_000)]
    size_px: Pixels

    @field_validator("n_images")
    @classmethod
    def _suffices(cls, n_images: int, info: ValidationInfo) -> int:
        check_shares(N_FLOWER_CLASSES, n_images, info.data.get("min_images", 0))
        return n_images


class Source(Section):
    """The drawn set that the default pretrained weights come from; its classes are none of the 104."""

    seed: Seed
    n_classes: Annotated[int, Field(ge=2, le=999)]  # as many looks that differ enough there are
    images_per_class: Annotated[int, Field(ge=3, le=100_000)]
    size_px: Pixels


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

    stored_size_px: Pixels


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

    epochs: Epochs
    lr: LearningRate


class ModelSettings(Section):
    """How a network is trained; subclasses add the arguments of their network's `build_model`."""

    optimizer: Literal["adam", "adamw", "nadam", "radam", "rmsprop", "sgd", "lamb", "lion"]
    lr: LearningRate
    epsilon: Epsilon
    weight_decay: Decay
    batch_size: Annotated[int, Field(ge=2, le=100_000)]  # batch normalisation cannot learn from one image
    epochs: Epochs
    phases: list[Phase]
    rounds: Annotated[int, Field(ge=1, le=1000)]
    schedule: Literal["none", "cosine"]
    warmup_epochs: EpochsOrZero
    patience: EpochsOrZero
    label_smoothing: Rate
    class_weights: Literal["none", "balanced"]
    gradient_clip: Clip
    mixup: MixingStrength
    cutmix: MixingStrength
    ema_decay: Rate
    sync_batch_norm: bool
    precision: Literal["bf16", "fp32"]
    compile: Literal["none", "default", "reduce-overhead"]

    @field_validator("phases", "warmup_epochs", "frozen_epochs", check_fields=False)
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        taken = value if isinstance(value, int) else sum(phase.epochs for phase in value)
        epochs = info.data.get("epochs", math.inf)
        if taken > epochs:
            raise ValueError(f"expected no more epochs than epochs ({epochs}), found {taken}")
        return value

    def network(self) -> dict[str, Any]:
        """Return the keyword arguments of the network's `build_model`: the keys that are not about training."""
        training = FineTuneSettings if isinstance(self, FineTuneSettings) else ModelSettings
        return {key: value for key, value in self if key not in training.model_fields}


class OtherSettings(ModelSettings):
    """A model beyond the five: its further keys go to its own `build_model`, which knows them."""

    model_config = ConfigDict(extra="allow")


class CnnSettings(ModelSettings):
    filters: Annotated[int, Field(ge=1, le=1024)]
    padding: Literal["same", "valid"]
    dense_units: Units
    dropout: Rate


class VggSettings(ModelSettings):
    batch_norm: bool
    dense_units: Units
    dropout: Rate


class FineTuneSettings(ModelSettings):
    """The head alone learns for the first `frozen_epochs`; then all layers, the backbone at `backbone_lr`.

    A phase's learning rate is the head's; the backbone's keeps the ratio of `backbone_lr` to `lr`.
    """

    frozen_epochs: EpochsOrZero
    backbone_lr: LearningRate


class VggFineTuneSettings(FineTuneSettings, VggSettings):
    pass


class Pretrain(Section):
    """How the backbones of `data/weights/drawn` are trained on the source set."""

    seed: Seed
    val: ProperFraction
    image_size_px: Annotated[Pixels, Field(ge=MIN_SIZE_VGG_PX)]
    stored_size_px: Pixels
    augment: Augment
    vgg19: VggSettings
    resnet50: ModelSettings

    @field_validator("stored_size_px")
    @classmethod
    def _fits(cls, stored: int, info: ValidationInfo) -> int:
        if (size := info.data.get("image_size_px", 0)) > stored:
            raise ValueError(f"pretrain.stored_size_px is {stored}, expected pretrain.image_size_px or more ({size})")
        return stored


class ImageNet(Section):
    """The timm names of the weights that `data/weights/imagenet` fetches."""

    vgg19: Literal["vgg19.tv_in1k", "vgg19_bn.tv_in1k"]
    resnet50: Annotated[
        str, Field(pattern=r"^resnet50\.[A-Za-z0-9_]+$", description="a name of timm's that begins with 'resnet50.'")
    ]


class Ensemble(Section):
    """The vote: who takes part, and with equal or fitted weights."""

    members: Annotated[list[str], Field(min_length=1, description="a list of one or more of the names under models")]
    voting: Literal["equal", "fitted"]


class Config(Section):
    """The whole of params.yaml."""

    seed: Seed
    images: Folder
    images_policy: Literal["strict", "skip"]
    images_max_pixels: Annotated[int, Field(ge=1, le=10_000_000_000)]
    images_copy_bits: Annotated[int, Field(ge=0, le=96)]
    weights: Folder
    image_size_px: Pixels
    flowers: Flowers
    source: Source
    split: Split
    pack: Pack
    augment: Augment
    models: Annotated[
        dict[str, ModelSettings], Field(min_length=1, description="a block with one or more models, by their names")
    ]
    pretrain: Pretrain
    imagenet: ImageNet
    ensemble: Ensemble

    @field_validator("*")
    @classmethod
    def _note(cls, value: Any, info: ValidationInfo) -> Any:
        """Note what is right by itself, so that it can be held against the rest even where something else is wrong."""
        if info.context is not None:
            info.context[info.field_name] = value
        return value


class ReportedSettings(ModelSettings):
    """Stands for a model whose settings are wrong, and have been reported."""
