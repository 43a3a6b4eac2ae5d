"""OpenVINO: runs its own form of the graph on Intel's processors and GPUs, and on ARM."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segcli.errors import CheckpointError, UsageError
from segcli.export.runtimes.runtime import Runtime

DEVICES = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU"}
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVino(Runtime):
    """One compiled model, and one more for each size of input that has been seen: fixed shapes run faster."""

    name, title, package, extra = "openvino", "OpenVINO", "openvino", "openvino"
    suffix, file = "-openvino", "model.xml"
    dtypes = ("fp32", "bf16", "fp16")

    def __init__(self, path: Path, device: str, dtype: str | None, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise self.missing() from error
        core = openvino.Core()
        place = DEVICES.get(device)
        if place is None or place not in {name.split(".")[0] for name in core.available_devices}:
            raise UsageError(
                f"--device {device}: OpenVINO has {', '.join(core.available_devices)} here; use --device cpu"
            )
        # Left alone it takes bf16 wherever the processor is quick at it, which is not what fp32 promises.
        options = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype or "fp32"], "PERFORMANCE_HINT": "LATENCY"}
        if place == "CPU":
            options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            model = core.read_model(path)
            self._compiled = core.compile_model(model, place, options)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path}: OpenVINO cannot open it ({(str(error).strip().splitlines() or ['?'])[-1][:160]}); export it "
                "again"
            ) from error
        self._request = self._compiled.create_infer_request()
        self.device = place.lower()
        why = "as asked" if device != "auto" else "the default"
        name = core.get_property(place, "FULL_DEVICE_NAME") if place != "CPU" else platform.machine()
        self.reason = f"OpenVINO {openvino.__version__.split('-')[0]} on {place} ({name}), {why}"
        self.inputs = tuple(port.any_name for port in self._compiled.inputs)
        self.outputs = tuple(port.any_name for port in self._compiled.outputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = self._request.infer(dict(inputs))
        return {port.any_name: answers[port].copy() for port in self._compiled.outputs}  # its memory is used again
