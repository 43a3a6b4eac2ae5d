"""The stream of training batches: a function of (seed, step), whoever computes it.

Image number n of the run (step × images a step + place in the step) is the n-th of an endless `Order`, and what is
drawn for it depends on n alone. Workers, ranks, accumulation and resuming only divide the numbers among
them. Workers are spawned, so that it is the same on every platform. They send bytes and bit masks through pipes rather
than float tensors through shared memory, which containers keep too small; the batch is made on arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader

from segcli.data.dataset import Dataset
from segcli.data.loading.collate import Layout, collate
from segcli.data.loading.copy_paste import CopyPaste, with_pasted
from segcli.data.loading.draws import generator
from segcli.data.loading.mosaic import Mosaic, mosaic
from segcli.data.loading.order import Order
from segcli.data.loading.transforms import Example, Transform
from segcli.errors import SegcliError
from segcli.types import Batch, Target


@dataclass(frozen=True)
class Share:
    """Which part of every step this process computes."""

    images: int  # of a micro-batch
    accumulate: int = 1  # micro-batches a step
    rank: int = 0  # of this process …
    world: int = 1  # … among so many

    def numbers(self, step: int) -> list[list[int]]:
        """accumulate × images numbers of the run that this process has in a step."""
        a_step = self.images * self.accumulate * self.world
        first = [step * a_step + (micro * self.world + self.rank) * self.images for micro in range(self.accumulate)]
        return [list(range(start, start + self.images)) for start in first]


@dataclass(frozen=True)
class Step:
    """What this process computes in one step."""

    step: int
    batches: list[tuple[Batch, list[Target]]]  # micro-batches
    files: list[str]  # the images in them, for messages


@dataclass(frozen=True)
class ExampleMaker:
    """Makes the n-th example of a run, in an image-loading process."""

    dataset: Dataset
    transform: Transform
    order: Order
    paste: CopyPaste | None = None
    mosaic: Mosaic | None = None

    def example(self, number: int) -> Example:
        """Decode, draw, cut, put together. Raises InputError naming a file that cannot be read."""
        example = self._drawn(self.order.at(number), number, "augment")
        if self.mosaic is not None:
            rng = generator(self.order.seed, number, example.image_id, "mosaic")
            if rng.random() < self.mosaic.probability:
                others = [self._drawn(self.order.any(rng), number, f"augment part {i} of a mosaic") for i in (2, 3, 4)]
                example = mosaic([example, *others], self.mosaic.once, rng)
        if self.paste is not None:
            rng = generator(self.order.seed, number, example.image_id, "paste")
            if rng.random() < self.paste.probability:
                other = self._drawn(self.order.any(rng), number, "augment what is pasted")
                example = with_pasted(example, other, self.paste.things, rng)
        return example

    def _drawn(self, index: int, number: int, purpose: str) -> Example:
        sample = self.dataset[index]
        return self.transform(sample, generator(self.order.seed, number, sample.image_id, purpose))

    def __getitem__(self, number: int) -> _Packed | SegcliError:
        try:
            return _Packed.of(self.example(number))
        except SegcliError as error:  # carried as a value: torch would wrap it in a traceback
            return error

    def __len__(self) -> int:
        return len(self.dataset)


@dataclass(frozen=True)
class _Packed:
    """An example whose masks are bits."""

    example: Example
    width: int

    @classmethod
    def of(cls, example: Example) -> _Packed:
        return cls(replace(example, masks=np.packbits(example.masks, axis=-1)), example.masks.shape[-1])

    def unpacked(self) -> Example:
        masks = np.unpackbits(self.example.masks, axis=-1, count=self.width)
        return replace(self.example, masks=masks.view(bool))


class Loader:
    """Iterates over steps, from `start_step`, without end. Each iteration starts its own workers and ends them."""

    def __init__(self, draw: ExampleMaker, share: Share, layout: Layout, workers: int, start_step: int) -> None:
        self._draw, self._share, self._layout = draw, share, layout
        self._workers, self._start = workers, start_step

    def __iter__(self) -> Iterator[Step]:
        step = self._start
        stream = self._examples()
        while True:
            micros = [next(stream) for _ in range(self._share.accumulate)]
            batches = [collate(examples, self._layout) for examples in micros]
            yield Step(step, batches, [str(example.file) for examples in micros for example in examples])
            step += 1

    def _examples(self) -> Iterator[list[Example]]:
        if not self._workers:
            for numbers in _Numbers(self._share, self._start):
                yield [self._draw.example(number) for number in numbers]
            return
        source: DataLoader[_Packed | SegcliError] = DataLoader(
            self._draw,  # type: ignore[arg-type]
            batch_sampler=_Numbers(self._share, self._start),
            num_workers=self._workers,
            collate_fn=_as_list,
            multiprocessing_context="spawn",
            worker_init_fn=_quiet_worker,
            prefetch_factor=2,
        )
        for answers in source:
            for answer in answers:
                if isinstance(answer, SegcliError):
                    raise answer
            yield [answer.unpacked() for answer in answers]


class _Numbers:
    """The endless micro-batches of a process, as torch's batch sampler."""

    def __init__(self, share: Share, start_step: int) -> None:
        self._share, self._start = share, start_step

    def __iter__(self) -> Iterator[list[int]]:
        step = self._start
        while True:
            yield from self._share.numbers(step)
            step += 1


def _as_list(answers: Sequence[object]) -> list[object]:
    return list(answers)


def _quiet_worker(worker: int) -> None:
    """Workers compete with the step for cores: one thread each. Signals, which a terminal or a service manager sends to
    every process of a run, are the main process's business: it needs the workers to finish its step.
    """
    import signal

    from segcli.codecs.opencv import opencv

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    opencv().setNumThreads(0)


def make_loader(
    maker: ExampleMaker,
    *,
    share: Share,
    layout: Layout | None = None,
    workers: int = 0,
    start_step: int = 0,
) -> Loader:
    """The training stream of one process.

    workers: 0 computes in this process, when asked; any number gives the same stream.
    start_step: where to continue; the stream from there is the same as without the interruption.
    """
    return Loader(maker, share, layout or Layout(), workers, start_step)
