"""Documents are drawn in any width: numbers stay whole, names give way in the middle."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.report import (
    Bar,
    Column,
    Document,
    Formula,
    Note,
    Table,
    Text,
    Title,
    Tree,
    render,
    to_rich,
    write,
)
from tally.report.figures import memory
from tally.report.layout import cells, shorten

EVERYTHING = Document(
    (
        Title("All parts"),
        Title("A section", 2, "12 parameters"),
        Formula("units × (features + 1)", "3 × (3 + 1) = 12"),
        Text("A paragraph long enough to be wrapped once when the line is short."),
        Table(
            columns=(Column(title="Name", flexible=True), Column(title="Count", align="right")),
            rows=(("a_rather_long_name_of_a_layer", "1,234,567"), ("two\nlines", "1")),
            totals=(("Total", "1,234,568"),),
        ),
        Bar("kernel", 0.75, "75 %"),
        Bar("bias", 0.001, "0.1 %"),
        Tree("model", (Tree("encoder", (Tree("dense"),)), Tree("head"))),
        Note("Nothing is wrong."),
        Note("Something may be.", "warning"),
    )
)


def test_every_part_is_drawn(golden) -> None:
    golden("every_part", render(EVERYTHING, 50))


def test_a_short_line_shortens_names_and_keeps_numbers(golden) -> None:
    golden("every_part_narrow", render(EVERYTHING, 28))


@given(st.text(max_size=40), st.integers(1, 40))
def test_a_shortened_text_fits_and_keeps_its_ends(text: str, width: int) -> None:
    short = shorten(text, width)
    assert cells(short) <= max(width, 1)
    if short != text:
        head, _, tail = short.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


def test_wide_characters_take_two_cells() -> None:
    assert cells("層1") == 3
    assert cells("e\u0301") == 1


@given(st.integers(0, 10**30), st.integers(5, 60))
def test_a_number_is_never_cut(number: int, width: int) -> None:
    table = Table(
        columns=(Column(flexible=True), Column(align="right")), rows=(("name" * 20, f"{number:,}"),)
    )
    assert f"{number:,}" in render(Document((table,)), width)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.00 B"), (1023, "1,023.00 B"), (1024, "1.00 KB"), (139304, "136.04 KB"), (4 * 10**12, "3.64 TB")],
)
def test_memory_is_written_in_keras_units(size: int, text: str) -> None:
    assert memory(size) == text


def test_rich_draws_the_same_characters_as_plain_text() -> None:
    drawn = to_rich(EVERYTHING, 50).plain
    assert [line.rstrip() for line in drawn.rstrip("\n").split("\n")] == render(EVERYTHING, 50).split("\n")


def test_into_a_pipe_no_escape_codes_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    write(EVERYTHING, width=60)
    assert capsys.readouterr().out == render(EVERYTHING, 60) + "\n"


def test_a_row_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="2 cells in a table of 1 columns"):
        Table(columns=(Column(),), rows=(("a", "b"),))


def test_neither_jax_nor_rich_is_loaded_to_draw_plain_text() -> None:
    code = (
        "import sys, tally.accounting, tally.report\n"
        "tally.report.render(tally.report.summarise(tally.accounting.Ledger(name='m')))\n"
        "print([name for name in ('jax', 'rich', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
