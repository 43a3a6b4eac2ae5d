"""The stream of batches depends on (seed, step) alone: not on workers, ranks, accumulation or where a run resumed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segcli.data.dataset import Dataset, open_split
from segcli.data.detect import detect
from segcli.data.loading.collate import Layout
from segcli.data.loading.copy_paste import CopyPaste
from segcli.data.loading.draws import generator, key, torch_generator
from segcli.data.loading.loader import ExampleMaker, Share, Step, make_loader
from segcli.data.loading.mosaic import Mosaic
from segcli.data.loading.order import Order, repeat_factors
from segcli.data.loading.transforms import ColorJitter, JitterCrop, TrainTransform
from segcli.errors import InputError
from tests.data import layouts

TRANSFORM = TrainTransform(JitterCrop((32, 32), (0.5, 1.5)), color=ColorJitter())


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_split(detect(layouts.coco_panoptic(tmp_path, layouts.scenes(train=5), layouts.LABELS)), "train")


PASTE, MOSAIC = CopyPaste(0.5, frozenset({0, 1})), Mosaic(0.5, frozenset({2}))


def stream(
    dataset: Dataset, share: Share, steps: int, *, start: int = 0, workers: int = 0, seed: int = 3
) -> list[Step]:
    """Every second image is a mosaic, every second pasted into; an epoch shows the first twice, the others once."""
    loader = make_loader(
        ExampleMaker(dataset, TRANSFORM, Order(seed, len(dataset), [2, 1, 1, 1, 1]), PASTE, MOSAIC),
        share=share,
        layout=Layout((32, 32)),
        workers=workers,
        start_step=start,
    )
    return list(itertools.islice(loader, steps))


def images(steps: list[Step]) -> list[tuple[int, bytes, bytes]]:
    """(step, image, masks) of every image, in an order of its own within a step."""
    return sorted(
        (step.step, image.numpy().tobytes(), target.masks.numpy().tobytes())
        for step in steps
        for batch, targets in step.batches
        for image, target in zip(batch.images, targets, strict=True)
    )


def test_ranks_and_accumulation_divide_the_same_stream(dataset: Dataset) -> None:
    whole = stream(dataset, Share(4), 3)
    assert images(stream(dataset, Share(2, accumulate=2), 3)) == images(whole)
    halves = [stream(dataset, Share(2, rank=rank, world=2), 3) for rank in (0, 1)]
    assert images([*halves[0], *halves[1]]) == images(whole)
    quarters = [stream(dataset, Share(1, accumulate=2, rank=rank, world=2), 3) for rank in (0, 1)]
    assert images([*quarters[0], *quarters[1]]) == images(whole)


def test_resuming_goes_on_as_if_nothing_happened(dataset: Dataset) -> None:
    straight = stream(dataset, Share(2, accumulate=2), 6)
    for start in range(6):
        assert images(stream(dataset, Share(2, accumulate=2), 6 - start, start=start)) == images(straight[start:])
    assert straight[4].step == 4
    assert len(straight[0].files) == 4


def test_another_seed_and_another_epoch_are_other_draws(dataset: Dataset) -> None:
    epochs = stream(dataset, Share(6), 2)
    names = [sorted(step.files) for step in epochs]
    assert names[0] == names[1]
    assert len(set(names[0])) == 5
    shown = [image for _, image, _ in images(epochs)]
    assert len(set(shown)) == 12
    assert images(stream(dataset, Share(6), 1, seed=4)) != images(epochs[:1])


def test_any_number_of_spawned_workers_gives_the_same_stream(dataset: Dataset) -> None:
    alone = images(stream(dataset, Share(2, accumulate=2), 3))
    assert images(stream(dataset, Share(2, accumulate=2), 3, workers=2)) == alone


def test_a_broken_file_met_by_a_worker_is_one_line(dataset: Dataset) -> None:
    dataset.records[2].image.place.write_bytes(b"")
    for workers in (0, 1):
        with pytest.raises(InputError, match=r"^\S+shot2\.png: empty \(0 bytes\)[^\n]*$"):
            stream(dataset, Share(6), 1, workers=workers)


@given(st.integers(1, 40), st.integers(0, 2**31), st.integers(0, 5))
def test_an_epoch_shows_every_image_once(count: int, seed: int, epoch: int) -> None:
    order = Order(seed, count)
    assert sorted(order.at(n) for n in range(epoch * count, (epoch + 1) * count)) == list(range(count))


def test_repeat_factors_are_those_of_the_paper() -> None:
    """Class 1 is in half of the images, class 2 in a quarter, class 3 in one of eight."""
    images = [{1}, {1, 2}, {1}, {1, 2, 3}, set(), set(), set(), set()]
    assert repeat_factors(images, 0.5) == [1, 2**0.5, 1, 2, 1, 1, 1, 1]
    assert repeat_factors(images, 0.125) == [1] * 8


@given(st.lists(st.floats(1, 4), min_size=1, max_size=12), st.integers(0, 2**31))
def test_epochs_show_images_as_often_as_their_factors_say(repeats: list[float], seed: int) -> None:
    order = Order(seed, len(repeats), repeats)
    scale, epochs = order.epoch / sum(repeats), 40
    seen = np.array([order.at(n) for n in range(epochs * order.epoch)]).reshape(epochs, order.epoch)
    counts = np.array([np.bincount(epoch, minlength=len(repeats)) for epoch in seen])
    for factor, count in zip(repeats, counts.T, strict=True):
        assert set(count) <= {int(factor * scale), int(factor * scale) + 1, round(factor * scale)}
        assert abs(count.mean() - factor * scale) < 0.5


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_shares_divide_a_step_without_gap_or_overlap(size: int, accumulate: int, world: int, step: int) -> None:
    shares = [Share(size, accumulate, rank, world) for rank in range(world)]
    numbers = sorted(n for share in shares for micro in share.numbers(step) for n in micro)
    total = size * accumulate * world
    assert numbers == list(range(step * total, (step + 1) * total))


@given(st.tuples(st.integers(0, 99), st.integers(0, 99), st.text(max_size=5), st.sampled_from(["augment", "points"])))
def test_draws_are_functions_of_their_key(place: tuple[int, int, str, str]) -> None:
    assert generator(*place).random(3).tolist() == generator(*place).random(3).tolist()
    first, second = (torch.rand(3, generator=torch_generator(*place)) for _ in range(2))
    assert torch.equal(first, second)
    seed, step, image_id, purpose = place
    others = {key(seed + 1, step, image_id, purpose), key(seed, step + 1, image_id, purpose)}
    others |= {key(seed, step, image_id + "1", purpose), key(seed, step, image_id, purpose + "2")}
    assert len(others | {key(*place)}) == 5


def test_draws_never_change() -> None:
    """Resuming a run with a later segcli must see the numbers it began with."""
    assert generator(1, 2, "a", "augment").integers(0, 1000, 4).tolist() == [562, 177, 179, 694]
    assert generator(0, 0, "", "order").random() == 0.7721320485971914
    assert torch_generator(1, 2, "a", "points").initial_seed() == 4274138801749105144
