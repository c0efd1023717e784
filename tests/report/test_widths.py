"""At any width the lines fit, every digit is there, and the numbers that are shown add up to the total."""

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.written import Part, again, dense, entry, ledger
from report.deep import holder
from tally.accounting import Ledger, Owner
from tally.report import Column, Document, Note, Table, Title, Tree, render, tabulate
from tally.report.fitting import cells, wrap

WORDS = st.text("abcdefgh_", min_size=1, max_size=30)
SIZES = st.integers(1, 3000)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Models with long names, layers inside layers, repetition, sharing, frozen, unbuilt and untracked weights."""
    parts: list[Part] = []
    if draw(st.booleans()):
        parts.append((Owner(path="", name=draw(WORDS), type="Model"), (entry("", "own", (draw(SIZES),)),)))
    for place in range(draw(st.integers(1, 4))):
        name = f"{draw(WORDS)}{place}"
        kind = draw(st.sampled_from(["layer", "blocks", "again", "unbuilt", "lost"]))
        part = dense(f"{name}/{'dense'}", draw(SIZES), draw(SIZES))
        if kind == "layer":
            owner, weights = dense(name, draw(SIZES), draw(SIZES))
            parts.append(
                (
                    owner,
                    tuple(
                        replace(w, state=draw(st.sampled_from(["trainable", "frozen", "state"])))
                        for w in weights
                    ),
                )
            )
        elif kind == "blocks":
            size, inner = draw(SIZES), draw(WORDS)
            for number in range(draw(st.integers(1, 12))):
                parts += [
                    holder(f"{name}/{number}", "Block", size),
                    dense(f"{name}/{number}/{inner}", size, 7),
                ]
        elif kind == "again":
            parts += [holder(name, draw(WORDS), 8), part, again(part, f"{name}/copy")]
        elif kind == "unbuilt":
            parts.append((Owner(path=name, type=draw(WORDS), status="unbuilt"), ()))
        else:
            parts.append(
                (Owner(path=name, type="Naive"), (entry(name, "w", (draw(SIZES),), state="untracked"),))
            )
    return ledger(draw(WORDS), *parts)


OPTIONS = st.fixed_dictionaries(
    {
        "depth": st.integers(0, 2),
        "fold": st.sampled_from([None, True, False]),
        "show_trainable": st.booleans(),
    }
)


def displayed(text: str) -> int:
    """Add up what stands under `Param #`; what is counted elsewhere says so."""
    heading, _, rest = text.split("\n", 2)[2].split("\n", 2)
    end = heading.index("Param #") + len("Param #")
    total = 0
    for line in rest.split("\n─")[0].split("\n"):
        number = re.search(r"[\d,]*\d$", line[:end])
        if number and not line[end:].startswith(", counted"):
            total += int(number[0].replace(",", ""))
    return total


@given(ledgers(), OPTIONS, st.integers(48, 200))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_numbers_shown_add_up_and_stay_in_their_lines(book: Ledger, options: dict, width: int) -> None:
    shown = render(tabulate(book, line_length=width, **options).document)
    assert max(map(cells, shown.split("\n"))) <= width
    assert displayed(shown) == book.total
    assert f"{book.total:,} (" in shown.replace("\n", " ")


@given(ledgers(), OPTIONS, st.integers(40, 47))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_on_the_shortest_lines_only_numbers_reach_further(book: Ledger, options: dict, width: int) -> None:
    shown = render(tabulate(book, line_length=width, **options).document)
    assert displayed(shown) == book.total
    wide = [line for line in shown.split("\n") if cells(line) > width and set(line) != {"─"}]
    assert all(re.search(r"\d,\d{3}", line) for line in wide)


@given(ledgers(), OPTIONS)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_rows_as_data_add_up_whatever_is_shown(book: Ledger, options: dict) -> None:
    rows = tabulate(book, **options).rows
    assert sum(row.params for row in rows) == book.total
    assert sum(row.state for row in rows) == book.by_state["state"]


@given(st.lists(st.text("ab1,.() ", max_size=20), max_size=6), st.integers(1, 60))
def test_wrapping_keeps_every_word_that_is_a_number(words: list[str], width: int) -> None:
    text = " ".join(words)
    kept = " ".join(wrap(text, width)).split()
    assert [word for word in kept if not re.search(r"[ab…]", word)] == [
        word for word in text.split() if not re.search(r"[ab]", word)
    ]


def test_columns_that_only_repeat_go_before_a_name_is_cut() -> None:
    table = Table(
        columns=(
            Column(title="Name", flexible=True),
            Column(title="Needed", optional=1),
            Column(title="Said", optional=2),
            Column(attached=True),
        ),
        rows=(("a_name_of_twenty_six_cells", "x" * 6, "1", " (b)"),),
    )

    def heading(width: int) -> str:
        return render(Document((table,)), width).split("\n")[0]

    assert heading(44).split() == ["Name", "Needed", "Said"]
    assert heading(40).split() == ["Name", "Needed"]
    assert heading(25).split() == ["Name", "Needed"]
    assert heading(20).split() == ["Name"]


def test_titles_trees_and_long_words_stay_in_their_lines_too() -> None:
    long = "a_very_long_name_" * 5
    parts = (
        Title(long),
        Title(long, 2, "12 parameters"),
        Tree(long, (Tree(long),)),
        Note(f"{long} is long."),
    )
    for width in (40, 60):
        assert max(map(cells, render(Document(parts), width).split("\n"))) <= width
