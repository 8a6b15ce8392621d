"""The blocks of a parameter file as frozen types with the allowed values; dvc.yaml lists which stage uses which key."""

import math
from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator

from stages.models import list_architectures, load_architecture
from stages.runtime.errors import UserError

SCRATCH = "scratch"  # name of the committed file that means "no start weights"
N_FLOWER_CLASSES = 104  # classes of the embedded set: stages/drawing/flower_classes.csv

Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
# bounds for float32: below them, weights do not change or a division by zero occurs; above them, training diverges
LearningRate = Annotated[float, Field(ge=1e-12, le=100)]
Epsilon = Annotated[float, Field(ge=1e-30, le=100)]
Strength = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Pixels = Annotated[int, Field(ge=16, le=4096)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
EpochsOrZero = Annotated[int, Field(ge=0, le=100_000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100)]  # for files and DVC stages
Path = Annotated[str, Field(pattern=r"^[^\p{Cc}]+$", max_length=1000)]


class Section(BaseModel):
    """A block of a parameter file: frozen, without unknown keys and silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Flowers(Section):
    """The embedded set: number, size and seed of the images that are drawn for the 104 classes."""

    seed: Seed
    min_images: Annotated[int, Field(ge=3, le=100_000)]  # train, val and test need one each
    n_images: Annotated[int, Field(ge=N_FLOWER_CLASSES, le=100_000_000)]
    size_px: Pixels

    @model_validator(mode="after")
    def _suffices(self) -> "Flowers":
        if self.n_images < N_FLOWER_CLASSES * self.min_images:
            raise ValueError(
                f"n_images is {self.n_images}, but {N_FLOWER_CLASSES} classes of at least min_images = "
                f"{self.min_images} need {N_FLOWER_CLASSES * self.min_images}; raise n_images or lower min_images"
            )
        return self


class Source(Section):
    """A drawn set for pretraining; its classes differ from the 104 classes of the embedded set."""

    seed: Seed
    n_classes: Annotated[int, Field(ge=2, le=999)]  # 999 species look different enough
    images_per_class: Annotated[int, Field(ge=3, le=100_000)]
    size_px: Pixels


class Split(Section):
    """Fractions of each class per split; a folder with its own train/, val/ and test/ keeps these splits."""

    seed: Seed
    train: Fraction
    val: Fraction
    test: Rate  # 0 if nothing is scored: an input for pretraining only

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        total = self.train + self.val + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"expected train + val + test = 1, found {total:g}; correct the fractions")
        return self


class Pack(Section):
    """The margin by which stored images are larger than the network's input: the room for random crops."""

    margin: Annotated[float, Field(ge=0, le=3)]  # 1: twice as large, for crops of `augment.scale`

    def stored_size_px(self, image_size_px: int) -> int:
        """Return the side of the stored images for networks with an input of `image_size_px`."""
        return round(image_size_px * (1 + self.margin))


class Augment(Section):
    """Data augmentation: random changes, drawn for every training image in every epoch."""

    crop: bool
    scale: Annotated[float, Field(gt=0, le=1)]
    ratio: Annotated[float, Field(ge=1, le=10)]
    flip: bool
    rotation_deg: Annotated[float, Field(ge=0, le=180)]
    zoom: Rate
    shift: Rate
    colour: Rate
    policy: Literal["none", "randaugment", "trivialaugment"]
    erase: Annotated[float, Field(ge=0, le=1)]

    @field_validator("scale")
    @classmethod
    def _is_the_only_crop(cls, value: float, info: ValidationInfo) -> float:
        if value < 1 and info.data.get("crop"):
            raise ValueError(f"expected 1 with crop: true, found {value}; set crop: false to use crops of other sizes")
        return value

    @field_validator("ratio")
    @classmethod
    def _has_room(cls, value: float, info: ValidationInfo) -> float:
        if value > 1 and info.data.get("scale") == 1:
            raise ValueError(f"expected 1 with scale: 1, found {value}; a smaller scale allows other ratios")
        return value


class Phase(Section):
    """A number of epochs with their own learning rate; phases come first in a round."""

    epochs: Epochs
    lr: LearningRate


class Network(Section):
    """A network and its weights; the other keys of the block are arguments of its architecture."""

    architecture: str
    weights: Path
    image_size_px: Pixels  # in the block itself, because dvc.yaml uses it to find the pack

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the architecture's `build_model`."""
        return {key: value for key, value in self if key not in ModelSettings.model_fields}

    def check(self, image_size_px: int) -> None:
        """Refuse an image size that the architecture cannot process; architectures with a limit override this.

        Raises:
            ValueError: the message says which sizes are possible, and what to do.
        """


class ModelSettings(Network):
    """Settings of a training: the block `training`, overridden by the block of the model.

    In the first `frozen_epochs`, only the head learns. Then all layers learn, the backbone at `backbone_lr` (None: the
    head's learning rate). Parts of the backbone in `frozen_layers` never learn. A phase sets the head's learning rate;
    the ratio of the backbone's learning rate to it stays the same.
    """

    optimizer: Literal["adam", "adamw", "nadam", "radam", "rmsprop", "sgd", "lamb", "lion", "muon"]
    lr: LearningRate
    backbone_lr: LearningRate | None
    momentum: Rate
    epsilon: Epsilon
    weight_decay: Strength
    batch_size: Annotated[int, Field(ge=2, le=100_000)]  # batch normalisation cannot learn from one image
    head_start: Literal["random", "logistic_regression"]
    epochs: EpochsOrZero
    min_steps: EpochsOrZero
    frozen_epochs: EpochsOrZero
    frozen_views: EpochsOrZero
    frozen_batch_norm: bool
    frozen_layers: list[Annotated[str, Field(min_length=1)]]
    warmup_epochs: EpochsOrZero
    phases: list[Phase]
    rounds: Annotated[int, Field(ge=1, le=1000)]
    patience: EpochsOrZero
    keep: Literal["accuracy", "loss", "last"]
    schedule: Literal["none", "cosine"]
    label_smoothing: Rate
    class_weights: Literal["none", "balanced"]
    gradient_clip: Annotated[float, Field(ge=0, le=1_000_000)]
    mixup: Strength
    cutmix: Strength
    ema_decay: Rate
    sync_batch_norm: bool
    precision: Literal["bf16", "fp32"]
    compile: Literal["none", "default"]

    @field_validator("phases", "warmup_epochs", "frozen_epochs")
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        taken = value if isinstance(value, int) else sum(phase.epochs for phase in value)
        epochs = info.data.get("epochs", math.inf)
        if taken > epochs:
            raise ValueError(
                f"expected at most the number of epochs ({epochs}), found {taken}; lower it, or raise epochs"
            )
        return value

    @field_validator("epochs")
    @classmethod
    def _trains(cls, value: int, info: ValidationInfo) -> int:
        if not value and info.data.get("head_start") == "random":
            raise ValueError("expected 1 or more, found 0; 0 needs head_start: logistic_regression")
        return value

    @field_validator("rounds")
    @classmethod
    def _have_epochs(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("epochs") == 0:
            raise ValueError(f"expected 1 with epochs: 0, found {value}; set rounds: 1")
        return value

    @field_validator("frozen_views")
    @classmethod
    def _have_a_use(cls, value: int, info: ValidationInfo) -> int:
        is_fitted = info.data.get("head_start") == "logistic_regression"
        if is_fitted and not value:
            raise ValueError("expected 1 or more with head_start: logistic_regression, found 0")
        if value and not is_fitted and info.data.get("frozen_epochs") == 0:
            raise ValueError(
                f"expected 0, because nothing uses the features, found {value}; set frozen_epochs or head_start: "
                "logistic_regression to use them"
            )
        return value

    @field_validator("mixup", "cutmix")
    @classmethod
    def _mixes_images(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("frozen_views") and info.data.get("frozen_epochs"):
            raise ValueError(
                f"expected 0 with frozen_views and frozen_epochs, because features cannot be mixed, found {value}"
            )
        return value

    @field_validator("dense_units", check_fields=False)  # for architectures that have this argument
    @classmethod
    def _can_be_fitted(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("head_start") == "logistic_regression":
            raise ValueError(
                f"expected 0 with head_start: logistic_regression, which fits a single layer, found {value}"
            )
        return value


@cache
def block_type(architecture: str, kind: type[Network] = ModelSettings) -> type[Network]:
    """Return the type of a block of some `kind`, extended by the `Arguments` of the architecture's file."""
    bases = (load_architecture(architecture).Arguments, kind)
    return create_model(architecture, __base__=bases, architecture=Literal[architecture])


def _of_any_architecture(kind: type[Network]) -> Any:
    blocks = [block_type(architecture, kind) for architecture in list_architectures()]
    return Annotated[Union[*blocks], Field(discriminator="architecture")]


Model, Backbone = map(_of_any_architecture, (ModelSettings, Network))


class Ensemble(Section):
    """The kind of ensemble; all kinds except `equal` are fitted on the validation split (scoring/voting.py)."""

    voting: Literal["equal", "linear_pool", "logarithmic_pool"]


class DrawnSet(Section):
    """A parameter file that only draws images: data/flowers/params.yaml."""

    draw: Flowers


class Recipe(Section):
    """A parameter file for training: of the root folder or of an input."""

    seed: Seed
    images: Path
    images_policy: Literal["strict", "skip"]
    images_max_pixels: Annotated[int, Field(ge=1, le=10_000_000_000)]
    images_copy_bits: Annotated[int, Field(ge=0, le=96)]
    image_sizes_px: list[Pixels]  # `pack` stores each size; the report shows pictures of the first size
    draw: Source | None = None  # only for an input that draws its own images
    split: Split
    pack: Pack
    augment: Augment
    training: dict[str, Any]  # defaults of the blocks of `models`, where they are checked
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    ensemble: Ensemble | None = None  # `ensemble` and `audit`: only in params.yaml of the root
    audit: Backbone | None = None  # the network whose features show which labels look wrong

    def networks(self) -> dict[str, Network]:
        """Return the blocks that describe a network, by their full keys."""
        audit = {"audit": self.audit} if self.audit else {}
        return {f"models.{name}": model for name, model in self.models.items()} | audit

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        sizes_px, blocks = self.image_sizes_px, self.networks()
        problems = [
            f"{name}.image_size_px: expected one of image_sizes_px, {sizes_px}, "
            f"found {block.image_size_px}; add it there"
            for name, block in blocks.items()
            if block.image_size_px not in sizes_px
        ]
        if unused := set(sizes_px) - {block.image_size_px for block in blocks.values()}:
            problems.append(
                f"image_sizes_px: no model uses {sorted(unused)}; remove it, or set image_size_px of a model to it"
            )
        if self.ensemble and not self.split.test:
            problems.append("split.test is 0, expected more: the ensemble is scored on the test split")
        if problems:
            raise UserError(*problems)
        return self
