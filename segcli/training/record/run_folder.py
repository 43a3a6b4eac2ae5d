"""The folder of a training run: what it was given, what it measured, and checkpoints that are complete or absent.

config.toml              the resolved recipe; can be given back with --config
run.json                 versions, machine, data, classes
metrics.jsonl            one line for every report
pictures/                validation photographs, truth beside prediction
checkpoint.safetensors   everything --resume needs, in one file
last/, best/             Hugging Face model folders
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcli.errors import CheckpointError, InputError, OutputError, SegcliError, UsageError, cut
from segcli.files.fields import Fields
from segcli.files.text import read_plain
from segcli.files.writing import replace_file, sync_file, sync_folder
from segcli.training.record.run_files import CHECKPOINT, CONFIG, FACTS, METRICS, checkpoint_state
from segcli.weights.checkpoint import LoadedModel, save_model


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two updates."""

    tensors: dict[str, Tensor]  # by name, with "model.", "ema.", "optimizer." … before it
    state: dict[str, Any]  # JSON: the step, the best metric, the run's fingerprint, its network as `described`


@dataclass
class RunFolder:
    """Writes the files of one run."""

    path: Path
    silent: bool = False  # for a rank that writes nothing
    _made: bool = False  # whether `create` made the folder

    def create(self) -> None:
        """Make the folder. Raises UsageError if a run is there already, OutputError if it cannot be made."""
        if self.silent:
            return
        if (self.path / CONFIG).exists() or (self.path / CHECKPOINT).exists():
            raise UsageError(f"{self.path} holds a run already: continue it with --resume, or choose another --out")
        with self._writing(self.path, "the run's folder"):
            self._made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "pictures").mkdir(exist_ok=True)

    def discard(self) -> None:
        """Remove the folder that `create` made, of a run that did not begin. One with anything in it stays."""
        if self._made:
            with contextlib.suppress(OSError):
                (self.path / "pictures").rmdir()
                self.path.rmdir()

    # ------------------------------------------------------------------------------------------------ what it is about

    def write_config(self, toml: str, facts: dict[str, Any]) -> None:
        """The recipe, and everything about this run that is not a setting."""
        if not self.silent:
            self._write(CONFIG, toml.encode())
            self._write(FACTS, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())

    def append(self, record: dict[str, Any]) -> None:
        """One line of metrics.jsonl, which is on disk when this returns."""
        if self.silent:
            return
        path = self.path / METRICS
        with self._writing(path, "the metrics"), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(record), allow_nan=False) + "\n")

    def rewind(self, step: int, *, swept: bool = False, unmeasured: bool = False) -> None:
        """Forget what was measured after `step`: it will be measured again. swept: whether thresholds were compared
        by then, which is the last thing a run does. unmeasured: whether the validation of `step` is still to be done.
        """
        path = self.path / METRICS
        if self.silent or not path.is_file():
            return
        try:
            lines = read_plain(path).decode("utf-8", errors="replace").splitlines(keepends=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error}); remove it to go on") from error
        self._write(METRICS, "".join(line for line in lines if _step_of(line, swept, unmeasured) <= step).encode())

    def write_picture(self, name: str, image: np.ndarray) -> None:
        """A PNG of uint8 RGB [H, W, 3] among the pictures."""
        if self.silent:
            return
        from io import BytesIO

        from PIL import Image

        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        self._write(f"pictures/{name}.png", buffer.getvalue())

    # ----------------------------------------------------------------------------------------------------- checkpoints

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint. Raises OutputError, with the old one untouched, if the disk does not take it."""
        if self.silent:
            return
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        metadata = {"segcli": json.dumps(checkpoint.state)}
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        with self._writing(self.path / CHECKPOINT, "the checkpoint", size):
            replace_file(self.path / CHECKPOINT, lambda part: save_file(tensors, part, metadata=metadata))

    @property
    def has_checkpoint(self) -> bool:
        """Whether something was saved."""
        return (self.path / CHECKPOINT).is_file()

    def load(self) -> Checkpoint:
        """The checkpoint. Raises CheckpointError if there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        path = self.path / CHECKPOINT
        try:
            with safe_open(path, "pt") as file:
                state = json.loads(file.metadata()["segcli"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path}: not a checkpoint of segcli train ({cut(error)})") from error
        entries = Fields(state, f"{path}: the run's state", CheckpointError)
        for name in ("step", "ema_updates", "threads"):
            entries.whole(name)
        for name in ("about", "progress", *(["network"] if "network" in entries else [])):
            entries.sub(name)
        return Checkpoint(tensors, state)

    @contextlib.contextmanager
    def resuming(self) -> Iterator[None]:
        """Turns what goes wrong while a checkpoint is taken up into one line: it is not what segcli train writes."""
        try:
            yield
        except SegcliError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
            file = self.path / CHECKPOINT
            raise CheckpointError(f"{file}: damaged ({cut(error)}); start a new run") from error

    def publish(self, name: str, loaded: LoadedModel, card: str) -> None:
        """Write last/ or best/ as a Hugging Face model folder with its card.

        A first one appears whole, by a rename; later ones are replaced file by file, each of which fits the others.
        """
        if self.silent:
            return
        target, part = self.path / name, self.path / f".{name}.part-{os.getpid()}"
        with self._writing(target, "the model"):
            try:
                shutil.rmtree(part, ignore_errors=True)
                save_model(loaded, part)
                (part / "README.md").write_text(card, encoding="utf-8")
                for file in part.iterdir():
                    sync_file(file)
                if target.is_dir():
                    for file in sorted(part.iterdir()):
                        os.replace(file, target / file.name)
                else:
                    os.replace(part, target)
                sync_folder(target)
            except OutputError as error:  # save_model's own: say it as everything else here
                raise error.__cause__ or error from None
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what a killed process left half-written."""
        if self.silent:
            return
        for pattern in (".*.part-*", ".segcli-*.part", ".tmp*"):  # the last is safetensors', of earlier versions
            for path in self.path.glob(pattern):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    # --------------------------------------------------------------------------------------------------------- writing

    def _write(self, name: str, content: bytes) -> None:
        with self._writing(self.path / name, name):
            replace_file(self.path / name, lambda part: part.write_bytes(content))

    @contextlib.contextmanager
    def _writing(self, path: Path, what: str, size: int | None = None) -> Iterator[None]:
        """Turns what goes wrong inside into one line that says what is left."""
        try:
            if size is not None and (free := shutil.disk_usage(self.path).free) < size:
                raise OSError(errno.ENOSPC, f"{what} needs {size >> 20} MB, {free >> 20} MB are free")
            yield
        except SegcliError:
            raise
        except Exception as error:
            if not isinstance(error, OSError) and not type(error).__name__.startswith("Safetensor"):
                raise
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            why = f"the disk is full ({error})" if full else str(error)
            kept = self._kept()
            raise OutputError(f"{path}: cannot write {what}: {why}.{kept}") from error

    def _kept(self) -> str:
        """What the user still has."""
        state = checkpoint_state(self.path / CHECKPOINT)
        if state is None:
            return ""
        return f" The checkpoint of step {state['step']} is untouched: free some space, then continue with --resume"


def _step_of(line: str, swept: bool, unmeasured: bool) -> float:
    """The step of a metrics line, with a half where it is a validation that is still to be done. One that was cut short
    counts as later than all, and so does a sweep if none was."""
    try:
        record = json.loads(line)
        if record.get("kind") in ("sweep", "final") and not swept:
            return float("inf")
        return float(record["step"]) + (0.5 if record.get("kind") == "validation" and unmeasured else 0)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return float("inf")


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value.item() if isinstance(value, torch.Tensor | np.generic) else value
