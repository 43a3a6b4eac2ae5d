"""Pickled weights: what honest tools write is read bit for bit, and what a hostile file asks for is one line."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.errors import CheckpointError
from segcli.weights.pickles import machine, read_weights, tensors


def read(path: Path) -> dict[str, torch.Tensor]:
    return tensors(read_weights(path), path)


# ----------------------------------------------------------------------------------------------------- honest files

ARRAYS = {
    "f4": np.arange(6, dtype=np.float32).reshape(2, 3),
    "big-endian": np.arange(6, dtype=">f8").reshape(3, 2),
    "f2": np.float16(0.5),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "transposed": np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(2, 0, 1),
    "strided": np.arange(10, dtype=np.int64)[::3],
    "bool": np.array([True, False, True]),
    "u1": np.arange(3, dtype=np.uint8),
    "i1": np.array([-1], dtype=np.int8),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "number": np.array(7.0, dtype=np.float32),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    beside = {"ü": "日本", "deep": [(1, 2.5, None), {"n": -(2**40)}], "options": Namespace(lr=0.1), "yes": True}
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": ARRAYS, **beside}, protocol=protocol) if protocol > 1 else zero(protocol))
    content = read_weights(path)
    found = tensors(content["model"], path)
    wanted = ARRAYS if protocol > 1 else {"f4": ARRAYS["f4"]}
    for name, array in wanted.items():
        assert found[name].numpy().tobytes() == np.array(array, dtype=array.dtype.newbyteorder("=")).tobytes(), name
        assert tuple(found[name].shape) == array.shape
    if protocol > 1:
        assert (content["ü"], content["deep"], content["yes"]) == (beside["ü"], beside["deep"], True)


def zero(protocol: int) -> bytes:
    """NumPy's dtypes need protocol 2 for their booleans elsewhere than here."""
    return pickle.dumps({"model": {"f4": ARRAYS["f4"]}}, protocol=protocol)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older"])
def test_tensors_are_those_of_torch(new: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0)
    state: Any = OrderedDict(
        whole=base,
        view=base[2:14].view(3, 4),
        transposed=base.view(4, 6).T,
        half=torch.ones(3, dtype=torch.float16),
        brain=torch.ones(2, 2, dtype=torch.bfloat16),
        flags=torch.tensor([True, False]),
        count=torch.tensor(5),
        none=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )
    state._metadata = OrderedDict({"": {"version": 1}})
    optimiser = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"params": [0], "betas": (0.9, 0.99)}]}
    path = tmp_path / "w.bin"
    torch.save(
        {"model": state, "optimizer": optimiser, "device": torch.device("cpu"), "dtype": torch.float32},
        path,
        _use_new_zipfile_serialization=new,
    )
    found = tensors(read_weights(path)["model"], path)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach()), name


# ------------------------------------------------------------------------------------------------------ hostile files


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def dtype(
    code: str = "f4", state: bytes = b"K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
) -> bytes:
    return named("numpy", "dtype") + text(code) + b"\x89\x88\x87R" + b"(" + state + b"tb"


EMPTY_ARRAY = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"


def array(shape: bytes, kind: bytes, raw: bytes) -> bytes:
    return EMPTY_ARRAY + b"(K\x01" + shape + kind + b"\x89C" + bytes([len(raw)]) + raw + b"tb"


def model(value: bytes) -> bytes:
    """{"x": value}"""
    return b"\x80\x04}" + text("x") + value + b"s."


OBJECTS = b"K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3f"
FIELDS = b"K\x03" + text("|") + b"N" + text("f") + b"\x85}" + text("f") + dtype() + b"K\x00\x86sK\x04K\x01K\x10"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "objects": (model(array(b"K\x01\x85", dtype("O8", OBJECTS), b"A" * 8)), "numpy.dtype of 'O8'"),
    "fields": (model(array(b"K\x01\x85", dtype("V4"), b"A" * 4)), "numpy.dtype of 'V4'"),
    "fields in the state": (model(array(b"K\x01\x85", dtype("f4", FIELDS), b"A" * 4)), "numpy.dtype with fields"),
    "a part in the state": (
        model(dtype("f4", b"K\x03" + text("<") + dtype() + b"NNK\x04K\x01K\x00")),
        "numpy.dtype with fields",
    ),
    "wide": (model(dtype("f16")), "numpy.dtype of 'f16'"),
    "complex": (model(dtype("c8")), "numpy.dtype of 'c8'"),
    "text": (model(dtype("U8")), "numpy.dtype of 'U8'"),
    "dates": (model(dtype("M8")), "numpy.dtype of 'M8'"),
    "ndarray called": (model(named("numpy", "ndarray") + b"K\x05\x85R"), "numpy.ndarray, called"),
    "ndarray made": (model(named("numpy", "ndarray") + b"K\x05\x85\x81"), "numpy.ndarray, called"),
    "state of a class": (model(named("numpy", "ndarray") + b"}b"), "gives a state to nothing"),
    "a pickle in an array": (model(EMPTY_ARRAY + b"(K\x01K\x01\x85" + dtype() + b"\x89]tb"), "an array of list"),
    "more numbers than bytes": (model(array(b"J\xff\xff\xff\x7f\x85", dtype(), b"AAAA")), "2147483647 numbers with 4"),
    "a negative side": (model(array(b"J\xff\xff\xff\xff\x85", dtype(), b"AAAA")), "a side that is no count"),
    "product wraps": (model(array(b"\x8a\x06" + b"\0" * 5 + b"\1" + b"\x85", dtype(), b"")), "numbers with 0 bytes"),
    "hidden code": (model(named("os", "system") + text("true") + b"\x85R"), r"asks for os\.system"),
    "code by attribute": (model(named("numpy", "dtype.__class__") + b")R"), r"asks for numpy\.dtype\.__class__"),
    "code by stack": (model(text("builtins") + text("eval") + b"\x93"), r"asks for builtins\.eval"),
    "call of a value": (model(b"})R"), "a call of a dict"),
    "call of a result": (model(dtype() + b")R"), "a call of a Type"),
    "extension": (model(b"\x82\x01"), "0x82 at byte"),
    "persistent": (model(b"Pid\n"), "0x50 at byte"),
    "persistent by value": (model(b"NQ"), "a value outside of the file"),
    "old instance": (model(b"(ios\nsystem\n"), "0x69 at byte"),
    "old object": (model(b"(" + named("os", "x")), r"asks for os\.x"),
    "new object with names": (model(named("numpy", "dtype") + b")}\x92"), "0x92 at byte"),
    "buffer outside": (model(b"\x97"), "0x97 at byte"),
    "set": (model(b"\x8f"), "0x8f at byte"),
    "memo index": (b"Nr\x00\xe1\xf5\x05.", "no table of tensors|other than a dictionary"),
    "memo recall": (model(b"j\xff\xff\xff\x7f"), "has not kept"),
    "text of 4 GB": (model(b"X\xff\xff\xff\xff"), "4,294,967,295 more are announced"),
    "bytes of 2**63": (model(b"\x8e" + b"\xff" * 8), "more are announced"),
    "bytearray of 2**60": (model(b"\x96" + b"\0" * 7 + b"\x10"), "more are announced"),
    "number of 2 GB": (model(b"\x8b\xff\xff\xff\x7f"), "a number of 2,147,483,647 bytes"),
    "number of 5,000 digits": (model(b"I" + b"9" * 5000 + b"\n"), "a line that is no number"),
    "frame of 2**60": (b"\x80\x04\x95" + b"\0" * 7 + b"\x10" + b"N.", "other than a dictionary"),
    "stack underflow": (model(b"0000000"), "where there is none"),
    "no mark": (model(b"t"), "no mark"),
    "items into nothing": (b"\x80\x04N(NNu.", "no dict at byte"),
    "key of objects": (model(b"}" + b"N\x85Ns"), "a key of a table is of the kind tuple"),
    "surrogate bytes": (
        model(named("_codecs", "encode") + text("€") + text("latin1") + b"\x86R"),
        "bytes that are none",
    ),
    "other codec": (model(named("_codecs", "encode") + text("x") + text("zlib") + b"\x86R"), "_codecs.encode of"),
    "cycle": (model(b"]q\x00h\x00a"), "x is a list, not an array"),
    "depth": (model(b"]" * 20_000 + b"a" * 19_999), "x is a list, not an array"),
    "tensor outside of torch": (model(named("torch._utils", "_rebuild_tensor_v2")), "asks for torch._utils"),
    "nothing": (b"", "breaks off"),
    "no value": (b".", "where there is none"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_can_only_be_refused(name: str, tmp_path: Path) -> None:
    raw, message = HOSTILE[name]
    path = tmp_path / "w.pkl"
    path.write_bytes(raw)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def saved(path: Path, pickled: bytes, files: dict[str, bytes], compress: int = zipfile.ZIP_STORED) -> Path:
    """A file as `torch.save` writes it, with a pickle of one's own."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("w/data.pkl", pickled)
        for name, content in files.items():
            archive.writestr(f"w/{name}", content)
    return path


def storage(count: int, kind: str = "FloatStorage", key: str = "0") -> bytes:
    number = struct.pack("<q", count)
    return b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + b"\x8a\x08" + number + b"tQ"


def tensor(store: bytes, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    whole = b"(" + store + b"\x8a\x08" + struct.pack("<q", offset) + numbers(shape) + numbers(stride)
    return named("torch._utils", "_rebuild_tensor_v2") + whole + b"\x89" + named("collections", "OrderedDict") + b")RtR"


FOUR = {"data/0": b"\0" * 16}
BAD_TENSORS: dict[str, tuple[bytes, dict[str, bytes], str]] = {
    "offset": (tensor(storage(4), 1, (4,), (1,)), FOUR, "outside of its storage"),
    "negative offset": (tensor(storage(4), -1, (2,), (1,)), FOUR, "do not go together"),
    "stride": (tensor(storage(4), 0, (2, 2), (4, 1)), FOUR, "outside of its storage"),
    "negative stride": (tensor(storage(4), 3, (2,), (-1,)), FOUR, "a side that is no count"),
    "expanded": (tensor(storage(4), 0, (10**6, 10**6), (0, 0)), FOUR, "outside of its storage"),
    "ranks": (tensor(storage(4), 0, (4,), (1, 1)), FOUR, "do not go together"),
    "dimensions": (tensor(storage(4), 0, (1,) * 4000, (1,) * 4000), FOUR, "no tuple of sides"),
    "a storage that lies": (tensor(storage(10**9), 0, (4,), (1,)), FOUR, "not in its ZIP"),
    "a storage that hides": (tensor(storage(3), 0, (3,), (1,)), FOUR, "not in its ZIP"),
    "a negative storage": (tensor(storage(-4), 0, (4,), (1,)), FOUR, "key or size is none"),
    "no storage": (tensor(storage(4, key="9"), 0, (4,), (1,)), FOUR, "not in its ZIP"),
    "a storage elsewhere": (tensor(storage(4, key="../data/0"), 0, (4,), (1,)), FOUR, "not in its ZIP"),
    "untyped": (tensor(storage(4, "UntypedStorage"), 0, (4,), (1,)), FOUR, r"asks for torch\.UntypedStorage"),
    "a storage called": (named("torch", "FloatStorage") + b"J\xff\xff\xff\x7f\x85R", FOUR, "a type of storage, called"),
    "no tensor": (b"NQ", FOUR, "a reference that is no storage"),
    "state": (storage(4), FOUR, "x is Storage"),
    "big-endian": (tensor(storage(4), 0, (4,), (1,)), FOUR | {"byteorder": b"big"}, "big-endian"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_tensor_lies_inside_of_its_storage(name: str, tmp_path: Path) -> None:
    value, files, message = BAD_TENSORS[name]
    path = saved(tmp_path / "w.bin", model(value), files)
    with pytest.raises(CheckpointError, match=message):
        read(path)


def test_the_honest_form_of_these_is_read(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "w.bin", model(tensor(storage(4), 1, (3,), (1,))), {"data/0": struct.pack("<4f", 1, 2, 3, 4)}
    )
    assert read(path)["x"].tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: saved(p, model(b"N"), {"data/0": b"\0" * 10**7}, zipfile.ZIP_DEFLATED), "packed files"),
        (lambda p: p.write_bytes(p.read_bytes()[:-30]), "ZIP directory is damaged"),
        (lambda p: p.write_bytes(p.read_bytes().replace(b"data.pkl", b"dat4.pkl")), r"no data\.pkl"),
        (lambda p: p.write_bytes(p.read_bytes().replace(b"\0" * 16, b"\0" * 15 + b"\1")), "damaged"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + b"\0" * 100), "ZIP directory is damaged"),
    ],
)
def test_archives(spoil: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.bin", model(tensor(storage(4), 0, (4,), (1,))), FOUR)
    spoil(path)
    with pytest.raises(CheckpointError, match=message):
        read(path)


def test_many_copies_of_few_numbers(tmp_path: Path) -> None:
    store = b"(" + storage(400) + b"\x94" + b"1"  # kept in the memo
    one = tensor(b"h\x00", 0, (20, 20), (1, 20))
    pickled = b"\x80\x04" + store + b"}(" + b"".join(text(str(i)) + one for i in range(100)) + b"u."
    path = saved(tmp_path / "w.bin", pickled, {"data/0": b"\0" * 1600})
    with pytest.raises(CheckpointError, match="more numbers in its tensors than in the file"):
        read(path)


def _whole_files() -> list[bytes]:
    found = [pickle.dumps({"model": ARRAYS}, protocol=protocol) for protocol in (2, 4, 5)]
    for new in (True, False):
        stream = io.BytesIO()
        torch.save(
            {"model": OrderedDict(a=torch.ones(3, 2), b=torch.ones(2))}, stream, _use_new_zipfile_serialization=new
        )
        found.append(stream.getvalue())
    return found


WHOLE = _whole_files()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_is_one_line_or_tensors(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(bytes(raw))
    with contextlib.suppress(CheckpointError):
        content = read_weights(path)
        tensors(content["model"] if isinstance(content, dict) and "model" in content else content, path)


def test_a_pickle_that_works_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MOST_INSTRUCTIONS", 1000)
    path = tmp_path / "w.pkl"
    path.write_bytes(b"\x80\x04" + b"N0" * 1000 + b".")
    with pytest.raises(CheckpointError, match="more than 1,000 instructions"):
        read(path)


@pytest.mark.parametrize("write", ["plain", "older"])
def test_a_hole_of_any_size_after_the_end(write: str, tmp_path: Path) -> None:
    """Nothing of it is read: a file that was made larger takes no disk, and no download."""
    file = tmp_path / "w.bin"
    if write == "plain":
        file.write_bytes(pickle.dumps({"a": np.ones(3)}))
    else:
        torch.save({"a": torch.ones(3)}, file, _use_new_zipfile_serialization=False)
    assert read_weights(file)
    os.truncate(file, 10**12)
    with pytest.raises(CheckpointError, match="bytes after its end"):
        read_weights(file)
