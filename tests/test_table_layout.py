"""Tables at every width: numbers and names stay whole, and what finds no room is named."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcli import console
from segcli.table_layout import GAP, Column, fit

AP = [Column(""), *(Column(name, numeric=True) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@100"))]
CLASSES = [Column("class"), Column("AP", numeric=True), Column("false positives", numeric=True), Column("what")]


def test_a_wide_headline_of_few_rows_is_turned() -> None:
    rows = [["masks", *["12.34"] * 7], ["boxes", *["9.87"] * 7]]
    whole = fit(AP, rows, 80)
    assert [column.heading for column in whole.columns] == [column.heading for column in AP]
    turned = fit(AP, rows, 40)
    assert [column.heading for column in turned.columns] == ["", "masks", "boxes"]
    assert turned.rows[:2] == [["AP", "12.34", "9.87"], ["AP50", "12.34", "9.87"]]
    assert turned.dropped == []


def test_many_rows_lose_their_last_columns_and_say_so() -> None:
    rows = [[f"class {n}", "12.34", "1,234", "short"] for n in range(9)]
    assert fit(CLASSES, rows, 80).dropped == []
    assert fit(CLASSES, rows, 30).dropped == ["what"]
    assert fit(CLASSES, rows, 20).dropped == ["false positives", "what"]


def test_headings_and_sentences_are_folded_before_anything_is_left_out() -> None:
    rows = [["a", "1.0", "7", "a sentence of many words, which goes on over the line's end"]] * 9
    folded = fit(CLASSES, rows, 44)
    assert folded.dropped == []
    assert folded.widths[2] == len("positives")
    assert folded.width <= 44


@given(
    st.lists(st.lists(st.text("abc 1", max_size=30), min_size=4, max_size=4), max_size=6),
    st.sampled_from([20, 60, 80, 100, 200, None]),
)
def test_what_is_printed_fits_or_is_whole(rows: list[list[str]], width: int | None) -> None:
    table = fit(CLASSES, rows, width)
    assert len(table.columns) >= 2
    assert all(len(row) == len(table.columns) == len(table.widths) for row in table.rows)
    if width is None:
        assert (table.rows, table.dropped) == (rows, [])
    elif table.width > width:  # not even two columns fit
        assert len(table.columns) == 4
    for place, column in enumerate(table.columns):
        if column.numeric or not place:
            assert all(len(row[place]) <= table.widths[place] for row in table.rows)
    assert table.width == sum(table.widths) + GAP * (len(table.widths) - 1)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_terminal_of_any_width_shows_whole_numbers(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console.table(AP, [["masks", *["12.34"] * 7]] * 9, full="--json")
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert all(len(line) <= width for line in lines if "--json" not in line)
    assert "…" not in "".join(lines)
    assert lines[2].split() == ["masks", *["12.34"] * 7]
