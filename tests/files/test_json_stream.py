"""JSON an element at a time: the values json.loads gives, whatever the window's size, and places that hold them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segcli.errors import InputError
from segcli.files import json_stream
from segcli.files.json_stream import read_elements, walk

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
nested = st.recursive(scalars, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=4), x, max_size=4))
files = st.lists(nested, max_size=8) | st.dictionaries(st.text(max_size=5), nested | st.lists(nested), max_size=4)
indents = st.sampled_from([None, 0, 2])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=files, indent=indents, ascii_=st.booleans(), chunk=st.integers(1, 40))
def test_all_of_it(value: Any, indent: int | None, ascii_: bool, chunk: int, file: Path) -> None:
    """Whatever lies across the end of a window, an element comes out whole, and can be read again by its place."""
    file.write_bytes(json.dumps(value, indent=indent, ensure_ascii=ascii_).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        elements = list(walk(file))
    if isinstance(value, list):
        assert [element.value for element in elements] == value
    else:
        for key, own in value.items():
            found = [element.value for element in elements if element.key == key]
            assert found == (own if isinstance(own, list) else [own])
    placed = [element for element in elements if element.place is not None]
    assert read_elements(file, [e.place for e in placed if e.place]) == [e.value for e in placed]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 60), chunk=st.integers(1, 40))
def test_cut_short_anywhere(cut: int, chunk: int, file: Path) -> None:
    text = '[{"image_id": 1, "score": 0.5},\n {"image_id": "ü", "x": [true]}]'
    file.write_bytes(text.encode()[:cut])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        with pytest.raises(InputError, match=r"not valid JSON, line [12], column \d+"):
            list(walk(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; export it again"),
        ("  \n", "empty; export it again"),
        ("12", "line 1, column 1: holds neither an array nor an object"),
        ("[1, 2]\n[3]", "line 2, column 1: goes on after its end"),
        ('[{"a": 1}\n {"b": 2}]', "line 2, column 2: ',' or ']' is missing$"),
        ('{"a": [1],\n "b" 2}', "line 2, column 6: ':' is missing$"),
        ('[1,\n {"a": tru, "b": 123456789}]', "line 2, column 8: expecting value$"),
        ('[1,\n {"a": "b', "line 2, column 8: unterminated string.*; the file is cut short: copy or export it again"),
        (b'[{"a": "\xff"}]', "line 1, column 9: is not UTF-8$"),
    ],
)
def test_where_it_is_wrong(text: str | bytes, message: str, file: Path) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        list(walk(file))


def test_memory_does_not_follow_the_file(file: Path) -> None:
    """20 MB pass through a window of a few."""
    row = json.dumps({"image_id": 1, "segmentation": {"size": [480, 640], "counts": "O2" * 500}})
    with file.open("w") as stream:
        stream.write("[" + f"{row},\n" * 20_000 + row + "]")
    tracemalloc.start()
    try:
        assert sum(1 for _ in walk(file)) == 20_001
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
