"""Whatever is wrong with an input, a result or a checkpoint: one clear line, the others finish, nothing half done."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from segcli.cli import app
from segcli.files import writing as files
from tests.cli.conftest import Predict, photo


def errors(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("segcli: error: ")]


def check_tidy(result: Result, out: Path = Path("segcli-out")) -> None:
    """No traceback, and no file that was begun and not finished."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    if out.is_dir():
        assert not [path for path in out.rglob("*") if path.name.startswith(".")]


# -------------------------------------------------------------------------------------------------------- images


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-600])


def huge_header(path: Path) -> None:
    """A PNG of 30000×30000 pixels, as its header says, with hardly any pixels in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


BAD_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.jpg": (truncated, "damaged or truncated"),
    "zero.jpg": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "text.jpg": (lambda path: path.write_text("hello"), "not a picture"),
    "huge.png": (huge_header, "30000×30000 = 900 megapixels, above the limit of 250; with enough memory, --max-pixels"),
    "missing.jpg": (lambda path: None, "no such file"),
    "nothing*.jpg": (lambda path: None, "no file matches"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_is_one_line_and_the_others_finish(predict: Predict, name: str) -> None:
    make, reason = BAD_IMAGES[name]
    make(Path(name))
    photo("a.png")
    photo("z.png")
    result = predict("a.png", name, "z.png")
    assert result.exit_code == 1
    (line,) = errors(result)
    assert line.startswith(f"segcli: error: {name}: ")
    assert reason in line
    written = [f"{stem}.{kind}" for stem in "az" for kind in ("json", "overlay.jpg", "png")]
    assert sorted(os.listdir("segcli-out")) == sorted([*written, "failures.jsonl"])
    assert "2 of 3 images" in result.stderr
    check_tidy(result)


def test_failures_are_listed_at_the_end(predict: Predict) -> None:
    for index in range(4):
        photo(f"photos/{index}.png")
    Path("photos/bad.png").write_bytes(b"")
    result = predict("photos", "--save", "png")
    assert result.exit_code == 1
    assert "1 of 5 images failed, listed in segcli-out/failures.jsonl" in result.stderr
    assert result.stderr.count("bad.png") == 1
    assert "photos/bad.png" in Path("segcli-out/failures.jsonl").read_text()


def test_all_unreadable(predict: Predict) -> None:
    Path("a.jpg").write_bytes(b"")
    result = predict("a.jpg")
    assert result.exit_code == 1
    assert len(errors(result)) == 1
    assert not Path("segcli-out").exists()


def test_nothing_that_was_named_is_there(predict: Predict) -> None:
    result = predict("a.jpg", "b*.jpg")
    assert result.exit_code == 2  # as in every command; with an image beside them it is 1
    assert errors(result) == [
        "segcli: error: a.jpg: no such file or folder",
        "segcli: error: b*.jpg: no file matches",
    ]
    assert not Path("segcli-out").exists()


def test_file_without_read_permission(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    photo("b.png")
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:  # a superuser may read anything, so chmod would show nothing
        if path.name == "a.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = predict("a.png", "b.png", "--save", "png")
    assert result.exit_code == 1
    assert errors(result) == ["segcli: error: a.png: not readable; check its permissions"]
    assert sorted(os.listdir("segcli-out")) == ["b.png", "failures.jsonl"]


def test_empty_folder(predict: Predict) -> None:
    Path("empty").mkdir()
    result = predict("empty")
    assert result.exit_code == 2
    assert len(errors(result)) == 1
    assert "empty: no images in this folder" in result.stderr


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)], ids=str)
@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_extreme_shapes_are_images_too(predict: Predict, size: tuple[int, int], task: str) -> None:
    photo("a.png", size)
    result = predict("a.png", "--task", task, "--save", "overlay,png,json,cutout,masks")
    assert result.exit_code == 0, result.output
    with Image.open("segcli-out/a.png") as written:
        assert written.size == (size[1], size[0])
    check_tidy(result)


def test_the_content_decides_and_not_the_extension(predict: Predict) -> None:
    photo("a.png").rename("a.jpg")
    photo("b.png").rename("b.xyz")
    assert predict("a.jpg", "b.xyz").exit_code == 0


DIFFICULT = ["with space.png", "żółw 猫.png", "-dash.png", "--help.png", "[1].png"]
DIFFICULT += [] if os.name == "nt" else ["new\nline.png", os.fsdecode(b"not-\xff-text.png")]


@pytest.mark.parametrize("name", DIFFICULT, ids=ascii)
def test_difficult_names(predict: Predict, name: str) -> None:
    photo(Path("photos", name))
    photo(name)
    assert predict("photos", "--out", "found").exit_code == 0
    result = predict("--out", "named", "--", name)
    assert result.exit_code == 0, result.output
    for out in (Path("found"), Path("named")):
        assert (out / name).exists()
        assert (out / name).with_suffix(".overlay.jpg").exists()


# ------------------------------------------------------------------------------------------------------ results


def fail_writing(monkeypatch: pytest.MonkeyPatch, code: int, after: int) -> None:
    """From the `after`-th file on the system refuses to move what was written into place."""
    replace, calls = os.replace, iter(range(1000))

    def refuse(source: Path, target: Path) -> None:
        if next(calls) >= after:
            raise OSError(code, os.strerror(code))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refuse)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_full_or_refusing_disk(predict: Predict, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    for name in "abcdef":
        photo(f"{name}.png")
    fail_writing(monkeypatch, code, after=4)
    result = predict(*(f"{name}.png" for name in "abcdef"), "--save", "png,json")
    assert result.exit_code == 1
    (line,) = errors(result)
    assert os.strerror(code) in line
    assert "--out" in line
    assert "--skip-existing" in result.stderr
    assert sorted(os.listdir("segcli-out")) == ["a.json", "a.png", "b.json", "b.png"]
    check_tidy(result)


def test_out_is_a_file(predict: Predict) -> None:
    photo("a.png")
    Path("out").write_text("")
    result = predict("a.png", "--out", "out/deeper")
    assert result.exit_code == 1
    (line,) = errors(result)
    assert "is a file, not a folder" in line


def test_out_is_not_writable(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = predict("a.png")
    assert result.exit_code == 1
    (line,) = errors(result)
    assert "not writable" in line


# -------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def checkpoint(shared_dir: Path, tmp_path: Path) -> Path:
    """A copy of a good checkpoint, to be spoilt."""
    folder = tmp_path / "model"
    shutil.copytree(shared_dir / "models" / "facade-reference", folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def text_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def nan_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["class_predictor.weight"][0, 0] = torch.nan
    save_file(state, folder / "model.safetensors")


def edit(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def lying_shapes(folder: Path) -> None:
    edit(folder, hidden_dim=256, feature_size=256)


def too_few_layers(folder: Path) -> None:
    edit(folder, decoder_layers=3)


def other_architecture(folder: Path) -> None:
    edit(folder, model_type="segformer")


def broken_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


BAD_CHECKPOINTS: dict[Callable[[Path], None], str] = {
    no_config: "has no config.json",
    no_weights: "no weights",
    text_for_weights: "model.safetensors: not a readable safetensors file",
    cut_weights: "model.safetensors: not a readable safetensors file",
    nan_weights: "class_predictor.weight holds NaN",
    lying_shapes: "config.json means",
    too_few_layers: "tensors unexpected",
    other_architecture: "'segformer'",
    broken_json: "config.json: not valid JSON",
}


@pytest.mark.parametrize(("spoil", "reason"), BAD_CHECKPOINTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_bad_checkpoint(checkpoint: Path, spoil: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    spoil(checkpoint)
    image = photo(tmp_path / "a.png")
    result = CliRunner().invoke(
        app, ["predict", str(image), "--model", str(checkpoint), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 3, result.output
    (line,) = errors(result)
    assert result.stderr.count("\n") == 1
    assert reason in line
    assert str(checkpoint) in line
    assert not (tmp_path / "out").exists()
    check_tidy(result)


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("./nowhere", "no model folder ./nowhere"),
        ("swin-tiny-coco-panoptik", "Did you mean swin-tiny-coco-panoptic"),
        ("", "empty"),
    ],
)
def test_unknown_model(ref: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo("a.png")
    result = CliRunner().invoke(app, ["predict", "a.png", "--model", ref])
    assert result.exit_code in (2, 3)
    (line,) = errors(result)
    assert reason in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_device_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo("a.png")
    result = CliRunner().invoke(app, ["predict", "a.png", "--device", "cuda", "--model", "facade"])
    assert result.exit_code == 2
    assert "--device cuda" in result.stderr
    assert "--device cpu" in result.stderr


def test_an_interrupt_during_the_import_of_torch_ends_with_130(tmp_path: Path) -> None:
    """torch's C++ calls Python while it is imported; an exception from there ends in an abort."""
    interrupt = "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(9)\n"
    (tmp_path / "torch.py").write_text(interrupt + "except BaseException:\n    os.abort()\n")
    photo = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(photo)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "segcli", "predict", str(photo), "--out", str(tmp_path / "out")]
    answer = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    assert (answer.returncode, "Traceback" in answer.stderr) == (130, False), answer.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--device", "npu"), "--device npu"),
        (("--classes", "persn"), "--classes persn: no such class here"),
        (("--model", "nucleii"), "Did you mean nuclei?"),
        (("--model", "no/such/folder"), "no/such/folder"),
    ],
)
def test_what_is_wrong_is_said_before_what_is_there(
    predict: Predict, checkpoint: Path, options: tuple[str, ...], reason: str
) -> None:
    photo("a.png")
    assert predict("a.png", "--save", "png").exit_code == 0
    given = ("a.png", "--save", "png", *(() if "--model" in options else ("--model", checkpoint)), *options)
    (line,) = errors(predict(*given))
    assert reason in line
    (line,) = errors(predict("a.png", "--save", "png"))
    assert "exist" in line


def test_kinds_that_were_not_joined_or_are_elsewhere(predict: Predict) -> None:
    photo("a.png")
    for given, reason in (
        (("--save", "csv", "json"), "--save csv,json"),
        (("--save", "imagej"), "--to imagej-roi"),
        (("--save", "xlsx"), "spreadsheet"),
    ):
        (line,) = errors(result := predict("a.png", *given))
        assert result.exit_code == 2
        assert reason in line
        assert not Path("segcli-out").exists()
