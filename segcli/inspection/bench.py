"""How fast a model is on this machine: the rows of docs/speed.md, without a peer."""

from __future__ import annotations

import copy
import dataclasses
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segcli.codecs.image import read_image
from segcli.codecs.jpeg import encode_jpeg
from segcli.data.loading.transforms import boxes_of
from segcli.export.verify import PHOTOS
from segcli.inference.predict import PredictSettings, forward, resolve, segment_photo
from segcli.inference.preprocess import Prepared, prepare
from segcli.render import overlay
from segcli.training.memory import keep_freed_memory
from segcli.training.objectives import objective_of
from segcli.training.optim import training_mode
from segcli.types import Batch, Target
from segcli.versions import versions
from segcli.weights.checkpoint import LoadedModel
from segcli.weights.device import DTYPES, has_native_bf16

PHOTO = PHOTOS / "people.jpg"
SECONDS = 8.0  # a row, with its first run
FEWEST, MOST = 3, 30  # runs of a row
STEP_IMAGES, STEP_SIDE, STEP_OBJECTS = 4, 320, 8  # of a step of training


@dataclass(frozen=True)
class Row:
    """One thing that was timed."""

    what: str
    input: str  # the network's input: images × height × width
    dtype: str
    seconds: float  # the median
    fastest: float
    runs: int


def bench(loaded: LoadedModel) -> Iterator[Row]:
    """The network alone, a photo from file to overlay, and a step of training, in fp32 and where it is native in bf16.

    loaded: in fp32. About a minute.
    """
    dtypes = ["fp32", "bf16"] if has_native_bf16(loaded.device) else ["fp32"]
    learns = any(True for _ in loaded.model.parameters())  # an exported network does not
    for dtype in dtypes if learns else dtypes[:1]:
        model = _in_dtype(loaded, dtype)
        settings = resolve(model.spec, None)
        frame = _as_a_whole(PHOTO, model)
        shape = "×".join(str(side) for side in (1, *frame.pixels.shape[-2:]))
        yield _timed("network", shape, dtype, partial(forward, model, [frame]))
        with tempfile.TemporaryDirectory() as folder:
            whole = partial(_photo_to_overlay, model, settings, Path(folder, "overlay.jpg"))
            yield _timed("a photo, from file to overlay", shape, dtype, whole)
    if learns:
        keep_freed_memory()
        shape = f"{STEP_IMAGES}×{STEP_SIDE}×{STEP_SIDE}"
        for dtype in dtypes:
            yield _timed("a step of training", shape, dtype, _step(loaded, dtype))


def _in_dtype(loaded: LoadedModel, dtype: str) -> LoadedModel:
    """A copy of an fp32 model in another precision; the model itself in its own."""
    if dtype == "fp32":
        return loaded
    model = copy.deepcopy(loaded.model).to(DTYPES[dtype])
    return dataclasses.replace(loaded, model=model, dtype=DTYPES[dtype])


def _as_a_whole(photo: Path, loaded: LoadedModel) -> Prepared:
    """A photo as one input of the network: of a model that predicts in tiles, one tile."""
    image, spec = read_image(photo), loaded.spec
    if side := spec.size.tile_of(image.shape[:2]):
        image = image[:side, :side]
    return prepare(image, spec)


def _photo_to_overlay(loaded: LoadedModel, settings: PredictSettings, out: Path) -> None:
    image = read_image(PHOTO)
    picture = overlay(image, segment_photo(loaded, image, settings))
    out.write_bytes(encode_jpeg(picture))


def _step(loaded: LoadedModel, dtype: str) -> Callable[[], None]:
    """One update with AdamW on noise with ellipses. The learning rate is zero: the weights stay."""
    model, config = loaded.model, loaded.config
    training_mode(model)
    parameters = [parameter.requires_grad_() for parameter in model.parameters()]
    criterion = objective_of(config)
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    device = loaded.device
    images = torch.randn(STEP_IMAGES, 3, STEP_SIDE, STEP_SIDE, device=device)
    padding = torch.zeros(STEP_IMAGES, STEP_SIDE, STEP_SIDE, dtype=torch.bool, device=device)
    batch = Batch(images, padding, [(STEP_SIDE, STEP_SIDE)] * STEP_IMAGES)
    targets = _ellipses(config.num_classes, device)

    def step() -> None:
        with torch.autocast(device.type, DTYPES[dtype]) if dtype != "fp32" else nullcontext():
            layers = model(batch, every_layer=True)
        criterion(layers, targets, lambda _, __, shape: torch.rand(shape)).total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.01)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _ellipses(classes: int, device: torch.device) -> list[Target]:
    """Truth of STEP_IMAGES images."""
    generator = torch.Generator().manual_seed(0)
    line = torch.arange(STEP_SIDE) / STEP_SIDE
    targets = []
    for number in range(STEP_IMAGES):
        centre = torch.rand(STEP_OBJECTS, 2, 1, 1, generator=generator)
        radius = torch.rand(STEP_OBJECTS, 2, 1, 1, generator=generator) * 0.25 + 0.03
        y, x = (line[:, None] - centre[:, 0]) / radius[:, 0], (line[None] - centre[:, 1]) / radius[:, 1]
        masks = y**2 + x**2 < 1
        labels = torch.randint(0, classes, (STEP_OBJECTS,), generator=generator)
        boxes, crowd = torch.from_numpy(boxes_of(masks.numpy())), torch.zeros(STEP_OBJECTS, dtype=torch.bool)
        tensors = [tensor.to(device) for tensor in (labels, masks, boxes, crowd)]
        targets.append(Target(tensors[0], tensors[1], tensors[2], tensors[3], str(number)))
    return targets


def _timed(what: str, shape: str, dtype: str, run: Callable[[], object]) -> Row:
    """The first run, which makes what is kept, is not counted."""
    end = time.perf_counter() + SECONDS
    run()
    times: list[float] = []
    while len(times) < FEWEST or (time.perf_counter() < end and len(times) < MOST):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a GPU works on when the call has returned
        times.append(time.perf_counter() - start)
    return Row(what, shape, dtype, statistics.median(times), min(times), len(times))


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, threads, versions."""
    return {"processor": _processor(), "threads": torch.get_num_threads()} | versions()


def _processor() -> str:
    """Its name as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
