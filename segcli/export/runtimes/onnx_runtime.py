"""ONNX Runtime: runs model.onnx on a CPU and, with the packages made for them, on GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segcli.errors import CheckpointError, UsageError
from segcli.export.runtimes.runtime import Runtime

# What a device is called there, the best first, and the package that brings it.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "mps": ("CoreMLExecutionProvider",),
    "gpu": (
        "CUDAExecutionProvider",
        "ROCMExecutionProvider",
        "MIGraphXExecutionProvider",
        "CoreMLExecutionProvider",
        "DmlExecutionProvider",
    ),
}
PACKAGES = {"cuda": "onnxruntime-gpu", "gpu": "onnxruntime-gpu (NVIDIA) or onnxruntime-directml (Windows)"}


class OnnxRuntime(Runtime):
    """One inference session."""

    name, title, package, extra = "onnx", "ONNX Runtime", "onnxruntime", "onnx"
    suffix, file = "-onnx", "model.onnx"

    def __init__(self, path: Path, device: str, dtype: str | None, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise self.missing() from error
        self.device = device
        device, _, number = device.partition(":")
        here = onnxruntime.get_available_providers()
        if device == "auto":
            wanted, why = [p for p in PROVIDERS["cuda"] if p in here], "the fastest here"
        else:
            wanted, why = [p for p in PROVIDERS.get(device, ()) if p in here][:1], "as asked"
            if not wanted:
                install = f"; install {PACKAGES[device]}" if device in PACKAGES else ""
                raise UsageError(
                    f"--device {device}: this ONNX Runtime has {', '.join(map(_short, here))} only{install}, or use "
                    "--device cpu"
                )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, and worded by us
        options.intra_op_num_threads = threads
        providers: list[Any] = [*wanted, *(p for p in PROVIDERS["cpu"] if p not in wanted)]
        if number and wanted:
            providers[0] = (wanted[0], {"device_id": number})
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=providers,
                enable_fallback=0,  # prints a banner on stdout and tries again what cannot work
            )
        except Exception as error:  # its exceptions have no common base
            raise CheckpointError(
                f"{path}: ONNX Runtime cannot open it ({(str(error).splitlines() or ['?'])[0][:160]}); export it again"
            ) from error
        got = self._session.get_providers()[0]
        if device != "auto" and got != wanted[0]:
            raise UsageError(f"--device {device}: {_short(wanted[0])} cannot be started here; use --device cpu")
        if device == "auto":
            self.device = "cpu" if got in PROVIDERS["cpu"] else "cuda"
        self.reason = f"ONNX Runtime {onnxruntime.__version__} on {_short(got)}, {why}"
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = self._session.run(list(self.outputs), dict(inputs))
        return dict(zip(self.outputs, answers, strict=True))


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")
