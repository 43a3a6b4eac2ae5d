from __future__ import annotations

import errno
import itertools
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from segcli.errors import CheckpointError, OutputError
from segcli.inference import pipeline
from segcli.inference.pipeline import ImageReport, predict_all
from segcli.inference.predict import PredictSettings, resolve
from segcli.inference.sources import Source, find_sources
from segcli.results.plan import Photo, plan
from segcli.segments import Segments
from segcli.types import Task
from tests.fakes import ColourNetwork, FakeLoaded


class Memory:
    """A writer that keeps what it is given."""

    run: ClassVar[dict[str, Any]] = {}
    counts = False

    def __init__(self, needs_image: bool = False) -> None:
        self.needs_image = needs_image
        self.segments: dict[str, Segments] = {}

    def write(self, photo: Photo, image: np.ndarray | None, segments: Segments, **others: object) -> list[Path]:
        assert (image is not None) >= self.needs_image
        self.segments[photo.file_name] = segments
        return [Path(f"{photo.stem}.png")]

    def take_entries(self) -> list[Any]:
        return []


def images(sources: Sequence[Source]) -> Iterator[tuple[Source, Photo]]:
    return zip(sources, plan([(source.path, source.folder) for source in sources]), strict=True)


def photo(path: Path, size: tuple[int, int], seed: int) -> Path:
    """Black, with a red and a green rectangle somewhere."""
    height, width = size
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    y, x = random.integers(0, height // 2), random.integers(0, width // 2)
    pixels[y : y + height // 3, x : x + width // 3, 0] = 255
    pixels[-(height // 5) :, : width // 4, 1] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photos in two orientations, of four network sizes, mixed."""
    sizes = [(60, 80), (80, 60), (60, 80), (64, 64), (80, 60), (60, 200)] * 2
    for index, size in enumerate(sizes):
        photo(tmp_path / f"{index:02}.png", size, index)
    return tmp_path


def run(folder: Path, sink: Memory | None = None, task: Task = "panoptic", **options: int) -> list[ImageReport]:
    loaded = FakeLoaded()
    settings = resolve(loaded.spec, task, **{key: options.pop(key) for key in ("tile",) if key in options})
    return list(predict_all(loaded, images(find_sources([str(folder)])), settings, sink or Memory(), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_batches_answer_as_single_images_do(folder: Path, task: Task) -> None:
    single, batched = Memory(), Memory()
    one = run(folder, single, task)
    many = run(folder, batched, task, batch_size=4)
    assert [report.source for report in one] == [report.source for report in many]
    for name, expected in single.segments.items():
        got = batched.segments[name]
        assert got.names() == expected.names()
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
        assert (got.id_map() != expected.id_map()).mean() <= 1e-5


def test_only_one_padded_size_shares_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[torch.Size] = []
    forward = ColourNetwork.forward
    monkeypatch.setattr(
        ColourNetwork, "forward", lambda self, batch: shapes.append(batch.images.shape) or forward(self, batch)
    )
    reports = run(folder, batch_size=4)
    assert [int(report.source.path.stem) for report in reports] == list(range(12))
    assert 2 < max(shape[0] for shape in shapes) <= 4


def test_bad_images_are_reported_in_their_place(folder: Path) -> None:
    (folder / "03.png").write_bytes(b"not a picture")
    (folder / "07.png").unlink()
    reports = run(folder, batch_size=2)
    assert [report.error is None for report in reports] == [index != 3 for index in range(12) if index != 7]
    failed = next(report for report in reports if report.error)
    assert failed.error is not None
    assert "03.png" in failed.error


def test_what_is_found_and_how_large_it_is(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32, :, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    (report,) = run(tmp_path)
    areas = {segment["category_name"]: segment["area"] / 64**2 for segment in report.record["segments"]}
    assert areas == pytest.approx({"red": 0.5, "dark": 0.5}, abs=0.05)
    assert report.record["size"] == {"width": 64, "height": 64}
    assert report.timings.decode > 0 < report.timings.model


def test_tiles(folder: Path) -> None:
    reports = run(folder, tile=64, batch_size=2)
    assert not [report.error for report in reports if report.error]
    names = {segment["category_name"] for report in reports for segment in report.record["segments"]}
    assert names == {"red", "green", "dark"}


def test_out_of_memory_names_the_flags_and_the_others_finish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = pipeline.forward
    calls = iter(range(100))

    def fail_once(*args: object) -> object:
        if next(calls) == 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")
        return forward(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "forward", fail_once)
    reports = run(folder)
    (failed,) = [report for report in reports if report.error]
    assert failed.error is not None
    assert str(failed.source) in failed.error
    for flag in ("--short-side", "--batch-size 1", "--tile", "--dtype bf16", "--device cpu"):
        assert flag in failed.error


def test_weights_that_answer_nan_end_the_run(folder: Path) -> None:
    loaded = FakeLoaded(ColourNetwork(float("nan")))
    with pytest.raises(CheckpointError, match=r"fake.*NaN"):
        list(predict_all(loaded, images(find_sources([str(folder)])), resolve(loaded.spec), Memory()))  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "survivors"), [(errno.ENOSPC, None), (errno.ENAMETOOLONG, 11)])
def test_full_disk_ends_the_run_but_one_bad_name_does_not(folder: Path, code: int, survivors: int | None) -> None:
    class Failing(Memory):
        def write(self, photo: Photo, *args: object, **others: object) -> list[Path]:
            if photo.file_name == "02.png":
                raise OutputError(f"{photo.file_name}: cannot write") from OSError(code, "no")
            return []

    if survivors is None:
        with pytest.raises(OutputError, match="cannot write"):
            run(folder, Failing())
    else:
        assert sum(report.error is None for report in run(folder, Failing())) == survivors


def test_closing_stops_the_threads_and_starts_no_further_image(folder: Path) -> None:
    loaded, sink = FakeLoaded(), Memory()
    stream = predict_all(loaded, images(find_sources([str(folder)])), resolve(loaded.spec), sink)  # type: ignore[arg-type]
    next(stream)
    stream.close()
    assert len(sink.segments) < 12
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segcli-")]


def test_memory_is_flat_over_many_images(tmp_path: Path) -> None:
    path = photo(tmp_path / "one.png", (240, 320), 0)
    loaded = FakeLoaded()

    class Discard(Memory):
        def write(self, *args: object, **others: object) -> list[Path]:
            return []

    same = itertools.repeat((Source(path), Photo(path, "one.png", Path("one"), 1)), 300)
    tracemalloc.start()
    try:
        for _ in predict_all(loaded, same, resolve(loaded.spec, "panoptic"), Discard(True)):  # type: ignore[arg-type]
            pass
        assert tracemalloc.get_traced_memory()[1] < 15 * 240 * 320 * 3  # of 300 photos
    finally:
        tracemalloc.stop()


def test_settings_override_the_checkpoint() -> None:
    spec = FakeLoaded().spec

    def with_(task: Task, **options: float) -> PredictSettings:
        return resolve(spec, task, **options)  # type: ignore[arg-type]

    assert with_("panoptic", threshold=0.3, overlap_threshold=0.1, mask_threshold=0.4).spec.rule.score == 0.3
    assert with_("instance", threshold=0.3, top_k=7).threshold == 0.3
    assert with_("panoptic").spec.rule == spec.rule
    assert with_("panoptic", short_side=128).spec.size.long == 192  # the cap grows along
    assert with_("panoptic", short_side=128, long_side=130).spec.size.long == 130
