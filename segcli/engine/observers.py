"""What `segcli eval` shows to those who look on: every image once, with its truth and what was predicted of it.

Metrics, prediction files, pictures and the oracle ladder are observers of one stream, so that each image goes through
the network once, whatever is asked for. An observer keeps counts, not images: memory stays flat over a dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from segcli.data.dataset import Sample
from segcli.engine.preprocess import Prepared
from segcli.segments import Segments
from segcli.types import QueryPredictions, Task


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One image of the stream.

    number: its place in the split, the same whichever rank evaluates it.
    samples: image and truth as each task has it (a panoptic truth without its stuff is the truth for instances).
    segments: what was predicted, for each task, in the dataset's own classes: `segments[task].label_set` is that of
        the truth. Instances are unthresholded; panoptic and semantic results follow the checkpoint's merge rule.
    prediction: the network's answer for this image alone (B = 1), in the model's classes; None for an image whose
        results were read from disk, and for predictions of another tool.
    prepared: the network's input, for `segcli.engine.predict.segment(prediction, 0, prepared, settings)`; None with
        prediction.
    seconds: spent on the network and on post-processing.
    """

    number: int
    samples: dict[Task, Sample]
    segments: dict[Task, Segments]
    prediction: QueryPredictions | None
    prepared: Prepared | None
    seconds: float

    @property
    def sample(self) -> Sample:
        """Image and truth for the first task."""
        return next(iter(self.samples.values()))


class Observer(Protocol):
    """Looks on at an evaluation. Can be pickled before `finish`: ranks send theirs to the first one, which merges."""

    def see(self, evaluated: Evaluated) -> None:
        """Take note of one image."""

    def merge(self, other: Self) -> None:
        """Add what the same observer has seen on another rank, of other images."""

    def finish(self, folder: Path | None) -> None:
        """Everything has been seen; called once, on the first rank. folder: where to write, None = nowhere."""
