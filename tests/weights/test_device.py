from __future__ import annotations

import pytest
import torch

from segcli.errors import UsageError
from segcli.weights import device
from segcli.weights.device import choose_device, choose_dtype

CPU = torch.device("cpu")


def test_auto_says_why_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_no_cuda", lambda: "this PyTorch is built without CUDA")
    monkeypatch.setattr(device, "_no_mps", lambda: "no Mac")
    choice = choose_device("auto")
    assert choice.device == CPU
    assert "this PyTorch is built without CUDA" in choice.no_gpu


def test_auto_prefers_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_no_cuda", lambda: "none")
    monkeypatch.setattr(device, "_no_mps", lambda: None)
    assert choose_device("auto").device.type == "mps"


@pytest.mark.parametrize("name", ["cuda", "mps", "tpu"])
def test_named_device_is_never_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_no_cuda", lambda: "PyTorch finds no CUDA device")
    monkeypatch.setattr(device, "_no_mps", lambda: "no Mac")
    with pytest.raises(UsageError, match=f"--device {name}: .*cpu"):
        choose_device(name)


@pytest.mark.parametrize(
    ("native", "loss", "expected"),
    [
        (True, 0.1, torch.bfloat16),
        (True, 0.11, torch.float32),
        (True, None, torch.float32),
        (False, 0.0, torch.float32),
    ],
)
def test_auto_dtype_is_bf16_only_if_fast_and_harmless(
    native: bool, loss: float | None, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_native_bf16", lambda _: native)
    assert choose_dtype("auto", CPU, loss) is expected


def test_named_dtype() -> None:
    assert choose_dtype("bf16", CPU) is torch.bfloat16
    with pytest.raises(UsageError, match=r"fp64.*fp32"):
        choose_dtype("fp64", CPU)
