"""The same numbers in every form: HTML, Markdown, LaTeX, CSV, JSON and data frames; and no character becomes markup."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from accounting.written import dense, ledger, mnist, siamese, transfer
from report.deep import blocks
from report.test_document import EVERYTHING
from tally.accounting import Ledger
from tally.report import Document, Note, Table, Text, html, latex, markdown, tabulate
from tally.report.document import Column
from tally.report.records import HEADER

BOOKS = {"mnist": mnist(), "siamese": siamese(), "transfer": transfer(), "deep": blocks(12)}
EVIL = "<b>&\"'|*_a_*`$x$ # ~~%\\{}^"
VOID = ("br", "col", "meta")


class Reader(HTMLParser):
    """Reads HTML, insists that every element is closed in its order, and keeps what it finds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.seen}


@pytest.mark.parametrize("name", BOOKS)
def test_every_form_has_the_totals(name: str) -> None:
    summary = tabulate(BOOKS[name], depth=1)
    total = f"Total params: {BOOKS[name].total:,}"
    assert total.replace(": ", ":") in Reader(summary.to_html()).text
    assert total in summary.to_markdown()
    assert total.replace(": ", ": & ") in summary.to_latex()
    read = list(csv.DictReader(io.StringIO(summary.to_csv())))
    assert sum(int(row["params"]) for row in read) == BOOKS[name].total
    assert int(summary.to_pandas().params.sum()) == BOOKS[name].total
    assert json.loads(summary.to_json())["total"] == BOOKS[name].total


@pytest.mark.parametrize("form", ["html", "markdown", "latex"])
def test_every_part_is_drawn(form: str, golden) -> None:
    draw = {
        "html": lambda one: html.render(one, style=False),
        "markdown": markdown.render,
        "latex": latex.render,
    }
    golden(f"every_part_{form}", draw[form](EVERYTHING))


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_a_summary_in_another_form_looks_as_it_did(form: str, golden) -> None:
    golden(f"form_{form}", getattr(tabulate(blocks(12), depth=1), f"to_{form}")().removesuffix("\n"))


# -- HTML --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", BOOKS)
def test_html_needs_nothing_from_elsewhere(name: str) -> None:
    page = tabulate(BOOKS[name]).to_html()
    assert Reader(page).tags().isdisjoint({"script", "link", "img", "iframe"})
    assert not re.search(r"https?:|url\(|@import|on\w+=", page)


def cell_values(rows: str) -> list[int]:
    found = re.findall(r'<td class="tally-right">([\d,]+)</td><td class="tally-attached">([^<]*)', rows)
    return [0 if remark.startswith(", counted") else int(number.replace(",", "")) for number, remark in found]


def test_the_rows_inside_add_up_to_the_row_that_opens() -> None:
    page = html.render(tabulate(blocks(12), columns="params").page, style=False)
    outer = re.sub(r"<details.*</details>", "", page, flags=re.DOTALL)
    assert sum(cell_values(outer)) == blocks(12).total
    inner = re.search(r"<details>(.*)</details>", page, re.DOTALL)[1]
    assert sum(cell_values(re.sub(r"<details.*?</details>", "", inner, flags=re.DOTALL))) == 12 * 848


def test_layers_inside_are_closed_at_first_and_open_to_the_depth_asked_for() -> None:
    def opened(**options) -> list[bool]:
        seen = Reader(tabulate(blocks(12), **options).to_html()).seen
        return ["open" in given for tag, given in seen if tag == "details"]

    assert opened() == [False, False]
    assert opened(depth=1) == [True, False]
    assert opened(expand_nested=True) == [True, True]


def test_weights_of_an_opened_layer_itself_have_a_row_inside() -> None:
    from accounting.written import entry
    from report.deep import holder

    owner = holder("block", "Scaled", 8)[0]
    book = ledger("m", (owner, (entry("block", "scale", (7,)),)), dense("block/dense", 8, 8))
    page = tabulate(book, columns="params").page
    outer = next(part for part in page.parts if isinstance(part, Table))
    assert outer.rows[0][1] == "79"
    assert [row[:2] for row in outer.inside[0][1].rows] == [
        ("own weights (Scaled)", "7"),
        ("dense (Dense)", "72"),
    ]


def test_columns_inside_are_as_wide_as_those_outside() -> None:
    page = tabulate(blocks(12), depth=9).to_html()
    groups = set(re.findall(r"<colgroup>(.*?)</colgroup>", page))
    assert len(groups) == 1


def test_a_page_of_its_own_is_whole(tmp_path: Path) -> None:
    tabulate(mnist()).to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>mnist</title>" in page
    assert "color-scheme: light dark" in page


# -- escaping ----------------------------------------------------------------------------------------------------------
def evil() -> Ledger:
    owner, weights = dense("layer", 8, 8)
    return Ledger(
        name=EVIL,
        owners=(type(owner)(path="layer", type=EVIL, name=EVIL, origin=EVIL),),
        entries=weights,
    )


def test_html_shows_a_name_as_it_is() -> None:
    read = Reader(tabulate(evil(), columns="params,origin").to_html())
    assert read.text.count(EVIL) == 3
    assert "b" not in read.tags()


def test_markdown_shows_a_name_as_it_is() -> None:
    shown = markdown.render(Document((Text(EVIL),)))
    assert shown == r"""\<b\>\&"'\|\*\_a\_\*\`\$x\$ # \~\~%\\{}^"""
    assert markdown.render(Document((Text("conv2d_1 - a"), Text("- no list"), Text("# no title")))) == (
        "conv2d_1 - a\n\n\\- no list\n\n\\# no title"
    )


def test_markdown_is_read_as_the_same_text() -> None:
    reader = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
    read = Reader(reader.render(tabulate(evil(), columns="params,origin").to_markdown()))
    assert read.text.count(EVIL) == 3
    assert {"table", "h3", "li"} <= read.tags()
    assert "b" not in read.tags()


def test_every_row_of_markdown_has_as_many_cells() -> None:
    lines = [line for line in tabulate(evil()).to_markdown().split("\n") if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_latex_shows_a_name_as_it_is() -> None:
    shown = latex.render(Document((Text(EVIL),)))
    assert shown == (
        r"""\textless{}b\textgreater{}\&"'\textbar{}*\_a\_*`\$x\$ \# \textasciitilde{}\textasciitilde{}"""
        r"\%\textbackslash{}\{\}\textasciicircum{}"
    )


@pytest.mark.parametrize("name", BOOKS)
def test_latex_has_as_many_cells_as_columns_and_closes_what_it_opens(name: str) -> None:
    text = tabulate(BOOKS[name], depth=1).to_latex()
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun == ended == ["tabular", "tabular"]
    for setting, body in re.findall(r"\\begin{tabular}{(.*?)}\n(.*?)\\end", text, re.DOTALL):
        columns = len(re.sub(r"@{}", "", setting))
        rows = [line for line in body.strip().split("\n") if line != r"\hline"]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
        assert all(row.endswith(r"\\") for row in rows)
    assert text.count("{") == text.count("}")
    assert text.replace("é", "").isascii()


# -- data --------------------------------------------------------------------------------------------------------------
def test_the_columns_of_csv_stay_whatever_is_shown() -> None:
    assert tabulate(mnist()).to_csv().split("\n")[0] == ",".join(HEADER)
    assert tabulate(mnist(), columns="macs").to_csv() == tabulate(mnist()).to_csv()


def test_csv_holds_numbers_as_they_are() -> None:
    row = next(
        csv.DictReader(io.StringIO(tabulate(blocks(1000, size=64)).to_csv().split("\n", 3)[-1]), HEADER)
    )
    assert row["path"] == "blocks/0"
    assert row["last_path"] == "blocks/999"
    assert row["params"] == str(1000 * (64 * 2 + 3 * 65 * 64))
    assert row["multiply_adds"] == ""
    assert row["output_shapes"] == "(None, 8, 64)"


def test_a_data_frame_keeps_whole_numbers_whole() -> None:
    frame = tabulate(blocks(3)).to_pandas()
    assert list(frame.columns) == list(HEADER)
    assert str(frame.params.dtype) == "int64"
    assert str(frame.multiply_adds.dtype) == "Int64"
    assert frame.set_index("path").params["blocks/0"] == 3 * 848


def test_files_are_written_where_asked(tmp_path: Path) -> None:
    summary = tabulate(mnist())
    for form in ("csv", "markdown", "latex"):
        text = getattr(summary, f"to_{form}")(tmp_path / form)
        assert (tmp_path / form).read_text(encoding="utf-8").rstrip("\n") == text.rstrip("\n")


def test_a_summary_says_in_a_line_what_it_is() -> None:
    assert repr(tabulate(mnist())) == "<summary of 'mnist': 7 rows, 34,826 parameters>"


def test_json_is_versioned_and_holds_the_rows() -> None:
    read = json.loads(tabulate(transfer()).to_json())
    assert list(read)[:4] == ["schema_version", "kind", "name", "source"]
    assert (read["kind"], read["by_state"]["frozen"]) == ("summary", 960)
    assert list(read["rows"][0]) == list(HEADER)
    assert read["rows"][0]["output_shapes"] == [[None, 26, 26, 32]]


def test_a_list_of_values_is_a_list_in_markdown_and_notes_say_how_urgent_they_are() -> None:
    values = Table(columns=(Column(), Column(attached=True)), rows=(("a", ", b"),), ruled=False)
    shown = markdown.render(Document((values, Note("Careful.", "warning"), Note("Broken.", "error"))))
    assert shown == "- a, b\n\n> **Warning:** Careful.\n\n> **Error:** Broken."
