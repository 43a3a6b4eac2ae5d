"""The four parts of every model. A new architecture picks or writes these; nothing else in segcli asks which it is.

B batch · Q queries · K classes · D channels · H W the padded image. A part that is written here must give the same
answer whatever else is in the batch, and draws random numbers only through `segcli.layers.stochastic`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from torch import Tensor, nn

from segcli.types import Pilots, PixelFeatures, QueryPredictions

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Layers(nn.ModuleList, Generic[ModuleT]):
    """A list of modules of one type."""

    def __iter__(self) -> Iterator[ModuleT]:
        return cast(Iterator[ModuleT], super().__iter__())


class Backbone(nn.Module, ABC):
    """Images to maps."""

    channels: list[int]  # of its maps, fine to coarse
    __call__: Callable[..., list[Tensor]]

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W], normalised -> one map [B, channels[i], h_i, w_i] a level, fine to coarse, and behind
        them what a backbone has that is no map, for a pixel decoder that knows it.
        """

    def layers(self) -> list[list[nn.Parameter]]:
        """Its weights from input to output, those that learn at one rate together; all at one rate if not told."""
        return [list(self.parameters())]


class PixelDecoder(nn.Module, ABC):
    """The backbone's maps to what masks are made of and what queries look at."""

    __call__: Callable[..., PixelFeatures]

    @abstractmethod
    def forward(self, pyramid: list[Tensor], padding: Tensor | None = None) -> PixelFeatures:
        """pyramid: as `Backbone.forward` gives it; padding [B, H, W] bool, True where there is no image."""


class Head(nn.Module, ABC):
    """A query to its answer: class logits, and a mask, a box or both."""

    @abstractmethod
    def answer(self, queries: Tensor, pixels: PixelFeatures) -> QueryPredictions:
        """queries [B, Q, D] -> class logits [B, Q, K + 1], masks in a form of `segcli.layers.masks`, boxes."""

    @abstractmethod
    def fresh_classes(self, count: int) -> None:
        """For another number of classes: weights that depend on it are drawn anew, all others stay."""


HeadT = TypeVar("HeadT", bound=Head)


class QueryDecoder(nn.Module, ABC, Generic[HeadT]):
    """Queries, refined layer by layer by what they see in the pixel features. HeadT: the head it can work with."""

    __call__: Callable[..., list[QueryPredictions]]

    @abstractmethod
    def forward(
        self, pixels: PixelFeatures, head: HeadT, every_layer: bool = False, pilots: Pilots | None = None
    ) -> list[QueryPredictions]:
        """-> the head's answers: those of every layer (training and views), or of the last alone.

        pilots: extra queries of a training step, given only if the configuration's `pilots` says that the decoder has
        attention masks to show them their objects by.
        """

    @abstractmethod
    def fresh_queries(self, count: int) -> None:
        """For another number of queries: their embeddings are drawn anew, all other weights stay."""

    def reach(self, progress: float) -> None:
        """A training run has come this far, from 0 to 1; for decoders that change as it goes on."""

    def unfinished(self) -> str | None:
        """What is not as it is at the end of a run, in words for whoever predicts with it; None: nothing."""
        return None

    # ------------------------------------------------------------------- of a decoder that ends what a backbone begins

    def backbone_names(self) -> dict[str, str]:
        """{the backbone's name of a tensor: its name here}, of the tensors that the backbone would have without it."""
        return {}

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """Further `Backbone.layers`, which lie here."""
        return []
