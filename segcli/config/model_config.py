"""What every architecture's configuration has. One class in a module of `segcli.config` enters it everywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self, cast

from segcli.config.backbones import BackboneConfig
from segcli.errors import CheckpointError, UsageError, shown
from segcli.types import InputSize, MergeRule, Task

# What a network is trained for: masks compared at random points or at every pixel, boxes, or the class of each pixel.
ObjectiveName = Literal["points", "pixels", "boxes", "classes"]

# By the name of the architecture on the command line. Newest first.
MODEL_TYPES: dict[str, type[ModelConfig]] = {}


@dataclass(frozen=True)
class ModelConfig(ABC):
    """One network of an architecture, as its Hugging Face `config.json` describes it.

    A new architecture is a subclass here, `build(config)` in `segcli.models.<module>`, and `tables(config)` and
    `constants(config)` in `segcli.weights.keys.<module>`.
    """

    backbone: BackboneConfig
    num_classes: int

    model_type: ClassVar[str]  # its name in config.json and on the command line
    reads: ClassVar[tuple[str, ...]] = ()  # other names in config.json that it reads
    module: ClassVar[str]
    title: ClassVar[str]  # its name for people
    arxiv: ClassVar[str]  # number of its paper
    image_processor: ClassVar[str | None]  # transformers' class that prepares its images
    tasks: ClassVar[tuple[Task, ...]]  # what networks of this architecture can be asked for
    rule: ClassVar[MergeRule]
    size: ClassVar[InputSize]
    sizes: ClassVar[tuple[str, ...]]  # keys of a recipe's [model] table that it follows
    small: ClassVar[Mapping[str, int]]  # those sizes around a small backbone
    objective: ClassVar[ObjectiveName]
    loss_weights: ClassVar[Mapping[str, float]]  # published, by the keys of a recipe's [loss] table
    pilots: ClassVar[bool] = False  # whether queries have attention masks that can show them their objects

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        MODEL_TYPES[cls.model_type] = cls

    # ------------------------------------------------------------------------------------------ what each has to say

    @classmethod
    @abstractmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self:
        """Of a parsed `config.json`; `where` names the file. Raises CheckpointError for what cannot be built here."""

    @classmethod
    @abstractmethod
    def new(cls, backbone: BackboneConfig, num_classes: int, sizes: Mapping[str, int]) -> Self:
        """Around a backbone that it `takes`; sizes as a recipe's [model] table names them."""

    @abstractmethod
    def raw(self) -> dict[str, Any]:
        """The `config.json` but for the names of the classes; `parse` reads it back."""

    @property
    @abstractmethod
    def num_queries(self) -> int:
        """Queries of an image."""

    @property
    @abstractmethod
    def hidden_dim(self) -> int:
        """Width of a query."""

    # ------------------------------------------------------------------------------------------------- what some say

    @classmethod
    def recipe(cls, backbone: str) -> Mapping[str, Mapping[str, Any]]:
        """Tables of a recipe that hold for this architecture where nothing else is given, by the name of the backbone;
        they come after the preset.
        """
        return {}

    @classmethod
    def takes(cls, backbone: BackboneConfig) -> bool:
        """Whether a network of this architecture can be built around a backbone."""
        return backbone.pyramid

    @property
    def transformers_class(self) -> str | None:
        """The class of transformers that loads a folder of this model, if there is one."""
        return None

    @property
    def answers(self) -> tuple[Task, ...]:
        """What this network can be asked for, of the tasks of its architecture."""
        return self.tasks

    @property
    def own_size(self) -> InputSize:
        """The test size of this network, where its files do not say one."""
        return self.size

    @property
    def outputs(self) -> int:
        """Class logits in its files, without "no object"."""
        return self.num_classes

    @property
    def class_columns(self) -> tuple[int, ...]:
        """Which of the outputs each class is; the others, if any, are no class."""
        return tuple(range(self.num_classes))

    def for_task(self, task: Task) -> Self:
        """With the parts that answering a task needs."""
        return self

    def for_size(self, size: InputSize) -> Self:
        """With the parts made for this test size, where they depend on it."""
        return self

    @classmethod
    def size_for(cls, task: Task, short: int, long: int) -> InputSize:
        """The test size of a task, with these sides."""
        return replace(cls.size, short=short, long=long)

    def with_classes(self, count: int) -> Self:
        """For another number of classes, one an output."""
        return replace(self, num_classes=count)

    def fit_classes(self, ids: Sequence[int]) -> Self | None:
        """For classes known by their ids; None if it has no place for them. There may be fewer than outputs where an
        architecture numbers its outputs by ids.
        """
        return self if len(ids) == self.num_classes else None

    def with_columns(self, columns: Sequence[int] | None) -> Self:
        """With the order of the classes among the outputs, which `config.json` does not say."""
        return self

    def with_queries(self, queries: int) -> Self:
        """With another number of queries. Raises UsageError for an architecture whose queries are its classes."""
        if queries == self.num_queries:
            return self
        if "num_queries" not in {field.name for field in fields(self)}:
            raise UsageError(f"[model] queries: {self.title} has one query a class; leave it out")
        return replace(self, **cast(Any, {"num_queries": queries}))


def parse_config(raw: dict[str, Any], where: str) -> ModelConfig:
    """The configuration in a parsed `config.json`; `where` names the file in errors.

    Raises CheckpointError for another architecture, an unsupported backbone or an unsupported setting.
    """
    name = raw.get("model_type")
    for kind in MODEL_TYPES.values():
        if name in (kind.model_type, *kind.reads):
            return kind.parse(raw, where)
    known = ", ".join(repr(name) for name in MODEL_TYPES)
    raise CheckpointError(f"{where}: model_type is {shown(name)}; segcli runs {known} checkpoints")
