"""The parameter file in, a typed and frozen configuration out; every mistake in it is named by its full key.

Every stage reads the whole file, so that a mistake anywhere is found before any work. A stage uses only
the keys that dvc.yaml lists for it.
"""

import datetime
import difflib
import math
import posixpath
import re
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from stages.shared.errors import UserError

N_FLOWER_CLASSES = 104  # of the embedded set: stages/drawing/flower_classes.csv
MIN_SIZE_VALID_PX = 76  # of the small CNN without padding: stages/models/cnn.py
MIN_SIZE_VGG_PX = 32  # five poolings halve the image, and one pixel has to be left
DRAWN, IMAGENET = "data/weights/drawn", "data/weights/imagenet"
LONGEST_FOUND = 200  # characters of a message for a value that was found
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


def misfits(blocks: dict[str, Any]) -> Iterator[str]:
    """Say which values, each right by itself, do not fit one another.

    Args:
        blocks: the fields of Config that are right by themselves.
    """
    yield from _size_misfits(blocks)
    yield from _backbone_misfits(blocks)
    if "flowers" in blocks and blocks["flowers"].min_images < 3:
        yield f"flowers.min_images is {blocks['flowers'].min_images}, expected 3 or more: split needs 3 images a class"
    if {"ensemble", "models"} <= blocks.keys():
        members = blocks["ensemble"].members
        for member in dict.fromkeys(members):
            if member not in blocks["models"]:
                yield f"ensemble.members: unknown model {_found(member)}{nearest(member, blocks['models'])}"
            if members.count(member) > 1:
                yield f"ensemble.members: {_found(member)} stands there twice"


def _size_misfits(blocks: dict[str, Any]) -> Iterator[str]:
    size = blocks.get("image_size_px")
    if size is None:
        return
    if "pack" in blocks and blocks["pack"].stored_size_px < size:
        yield f"pack.stored_size_px is {blocks['pack'].stored_size_px}, expected image_size_px or more ({size})"
    for name, model in blocks.get("models", {}).items():
        if isinstance(model, CnnSettings) and model.padding == "valid" and size < MIN_SIZE_VALID_PX:
            yield (
                f"models.{name}.padding is 'valid', which needs images of {MIN_SIZE_VALID_PX} px or more, but "
                f"image_size_px is {size}; set the one to 'same', or raise the other"
            )
        if isinstance(model, VggSettings) and size < MIN_SIZE_VGG_PX:
            yield f"image_size_px is {size}, but models.{name} needs images of {MIN_SIZE_VGG_PX} px or more"


def _backbone_misfits(blocks: dict[str, Any]) -> Iterator[str]:
    """Batch normalisation has to be in the weights exactly if it is in the network: stages/shared/backbones.py."""
    model = blocks.get("models", {}).get("vgg19_pretrained")
    folder = posixpath.normpath(blocks.get("weights", ""))
    if not isinstance(model, VggSettings):
        return
    if folder == DRAWN and "pretrain" in blocks:
        key, has = "pretrain.vgg19.batch_norm", blocks["pretrain"].vgg19.batch_norm
        says = f"{key} is {str(has).lower()}"
    elif folder == IMAGENET and "imagenet" in blocks:
        key, has = "imagenet.vgg19", blocks["imagenet"].vgg19.startswith("vgg19_bn.")
        says = f"{key} is {blocks['imagenet'].vgg19!r}, {'with' if has else 'without'} batch normalisation"
    else:
        return
    if has != model.batch_norm:
        yield (
            f"models.vgg19_pretrained.batch_norm is {str(model.batch_norm).lower()}, but {says}, and weights is "
            f"{folder}; set the two alike"
        )


def nearest(name: Any, names: Iterable[Any]) -> str:
    """Return an ending for a message: the name that was probably meant, or all that there are."""
    known = [str(each) for each in names]
    close = difflib.get_close_matches(str(name)[:100], known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of: {', '.join(known)}" if known else ""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlong, self.maxstring, self.maxother = 2, 60, 120, 120


def _found(value: Any) -> str:
    """Show a value in one line that is not too long."""
    if isinstance(value, datetime.date):
        return str(value)
    try:
        text = _Short().repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_FOUND else f"{text[:LONGEST_FOUND]}..."


def _name(key: Any) -> str:
    """Show a part of a full key: as it is where that can be read, else in quotes."""
    return key if isinstance(key, str) and re.fullmatch(r"[\w-]{1,60}", key) else _found(key)


def _check(section: type[Section], block: Any, problems: list[str], prefix: str = "", context: Any = None) -> Any:
    """Return the section; where the block is wrong, add what is wrong to `problems` and return None."""
    try:
        return section.model_validate(block, context=context)
    except ValidationError as error:
        problems += [_describe(section, problem, prefix) for problem in error.errors(include_url=False)]
        return None


def _describe(section: type[Section], problem: Any, prefix: str) -> str:
    """Say in words what pydantic found: the key's full name, what was expected, what was found."""
    loc = problem["loc"]
    full_key = (prefix + ".".join(map(_name, loc))).rstrip(".")
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        parent, _ = _look_up(section, loc[:-1])
        return f"{full_key}: unknown key{nearest(loc[-1], getattr(parent, 'model_fields', ()))}"
    if problem["type"] == "value_error":
        reason = str(problem["ctx"]["error"])
        return reason if reason.startswith(full_key) else f"{full_key}: {reason}"
    expected = _say_what_is_allowed(*_look_up(section, loc))
    if problem["type"] == "missing":
        return f"{full_key}: missing key; expected {expected}"
    return f"{full_key}: expected {expected}, found {_found(problem['input'])}"


def _look_up(section: type[Section], loc: Iterable[Any]) -> tuple[Any, FieldInfo | None]:
    """Return the type, and the field if it is one, that stands at a place in a section."""
    kind, field = section, None
    for part in loc:
        if isinstance(kind, type) and issubclass(kind, Section):
            field = kind.model_fields.get(part)
            kind = field.annotation if field else Any
        else:  # an item of a list
            kind, field = get_args(kind)[0], None
    return kind, field


def _say_what_is_allowed(kind: Any, field: FieldInfo | None) -> str:
    if field and field.description:
        return field.description
    if isinstance(kind, type) and issubclass(kind, Section):
        return f"a block with the keys {', '.join(kind.model_fields)}"
    if get_origin(kind) is Literal:
        *others, last = map(repr, get_args(kind))
        return f"{', '.join(others)} or {last}"
    if get_origin(kind) is list:
        return f"a list, each item {_say_what_is_allowed(get_args(kind)[0], None)}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words[kind] + _say_range(field)


def _say_range(field: FieldInfo | None) -> str:
    limits: dict[str, float] = {}
    for each in field.metadata if field else []:
        limits |= {sign: getattr(each, sign) for sign in ("ge", "gt", "le", "lt") if hasattr(each, sign)}
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "to below" if "ge" in limits else "and below"}
    return "".join(
        f" {words[sign]} {limit if isinstance(limit, int) else f'{limit:g}'}" for sign, limit in limits.items()
    )


TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, whose every complaint is a YAMLError that knows its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):  # "2024-13-45", "!!int x", 5,000 digits
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"no {kind}", node.start_mark) from None


def _read_yaml(path: Path) -> tuple[Any, list[str]]:
    """Return what the file says, each key as the text that it is written as, and which keys stand there twice."""
    text = _read_text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        twins = list(_check_keys(node, "", set()))
        return loader.construct_document(node), twins
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not a YAML file: {_say_where(error, text)}") from None
    except RecursionError:
        raise UserError(f"{path}: not a YAML file: its brackets are nested too deeply; close them") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; run from the repository's root") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected a file, found a folder; run from the repository's root") from None
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} (0x{error.object[error.start]:02x})"
        raise UserError(f"{path}: not a YAML file: {byte} is not UTF-8; save it as UTF-8") from None


def _say_where(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: {text[error.position]!r} is a character that YAML does not allow"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        said = f"line {line}, column {column}: {error.context or ''} {error.problem}"
        return " ".join(said.split())
    return " ".join(str(error).split())


def _check_keys(node: yaml.Node, prefix: str, seen: set[int]) -> Iterator[str]:
    """Say which keys stand in a mapping more than once: PyYAML would silently take the last.

    Every key becomes the text that it is written as: `on`, `no` and `1` would be true, false and a number.
    """
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _check_keys(item, f"{prefix}{index}.", seen)
        return
    lines = defaultdict(list)
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            key.tag = key.tag if key.tag == MERGE else TEXT
            lines[_name(key.value)].append(key.start_mark.line + 1)
            yield from _check_keys(value, f"{prefix}{_name(key.value)}.", seen)
    for name, places in lines.items():
        if len(places) > 1:
            *first, last = map(str, places)
            yield f"{prefix}{name}: stands there {len(places)} times, in lines {', '.join(first)} and {last}; keep one"


class Inspected(NamedTuple):
    """What was found in the parameters."""

    config: Config | None  # None if there is any problem
    blocks: dict[str, Any]  # the fields of Config that are right by themselves
    problems: list[str]  # a line each


def inspect_values(values: dict) -> Inspected:
    """Check the whole of the parameters, and go on where something is wrong."""
    problems: list[str] = []
    models = values.get("models")
    if isinstance(models, dict):
        values = {**values, "models": {_name(key): _check_model(_name(key), models[key], problems) for key in models}}
    blocks: dict[str, Any] = {}
    config = _check(Config, values, problems, context=blocks)
    problems += misfits(blocks)
    return Inspected(None if problems else config, blocks, problems)


def inspect_file(path: Path | str = "params.yaml") -> Inspected:
    """Read and check the whole parameter file, and go on where something is wrong; the problems begin with the file.

    Raises:
        UserError: the file is missing, no YAML, or no mapping.
    """
    values, twins = _read_yaml(Path(path))
    if not isinstance(values, dict):
        found = "nothing" if values is None else _found(values)
        raise UserError(f"{path}: expected a mapping of parameters, found {found}")
    config, blocks, problems = inspect_values(values)
    problems = [f"{path}: {problem}" for problem in (*twins, *problems)]
    return Inspected(None if problems else config, blocks, problems)


def read_config(path: Path | str = "params.yaml") -> Config:
    """Read and check the whole parameter file.

    Returns:
        The frozen configuration; `config.models[name]` is a ModelSettings, or the subclass that fits the name.
    Raises:
        UserError: the file is missing or no YAML, or a key is unknown, missing, there twice, of the wrong type or
            senseless; an argument for each such key, which names it in full.
    """
    inspected = inspect_file(path)
    if inspected.problems:
        raise UserError(*inspected.problems)
    return inspected.config


def _check_model(name: str, settings: Any, problems: list[str]) -> ModelSettings:
    own_files = {path.stem for path in (Path(__file__).parent.parent / "models").glob("[!_]*.py")}
    if name not in _SETTINGS and name not in own_files:
        problems.append(f"models.{name}: unknown model{nearest(name, _SETTINGS)}")
        return ReportedSettings.model_construct()
    model = _check(_SETTINGS.get(name, OtherSettings), settings, problems, prefix=f"models.{name}.")
    return model or ReportedSettings.model_construct()
