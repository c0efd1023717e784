"""In a notebook the same is shown as HTML, once; anywhere else it is text."""

import io
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

import tally
from accounting.written import mnist, transfer
from tally.models.verbs.show import show
from tally.report import Document, Note, notebook


class OutStream(io.StringIO):
    """What a kernel puts in place of standard output."""


OutStream.__module__ = "ipykernel.iostream"


@pytest.fixture
def notebook_page(monkeypatch: pytest.MonkeyPatch) -> Callable[[], SimpleNamespace]:
    """Begin a notebook, so far as a library sees it: its shell, what it displays, and what is printed."""

    def begin() -> SimpleNamespace:
        shown: list[dict] = []
        shell = SimpleNamespace(kernel=object(), execution_count=1)
        display = SimpleNamespace(display=lambda data, raw: shown.append(data))
        monkeypatch.setitem(
            sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display)
        )
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        printed = OutStream()
        monkeypatch.setattr(sys, "stdout", printed)
        return SimpleNamespace(shown=shown, shell=shell, printed=printed)

    return begin


def test_a_summary_is_shown_as_html_with_its_text_beside_it(notebook_page: Callable) -> None:
    page = notebook_page()
    tally.summary(transfer())
    [data] = page.shown
    assert "<details>" in data["text/html"]
    assert "Total params: 1,354" in data["text/plain"]
    assert page.printed.getvalue() == ""


def test_a_summary_is_not_shown_twice_in_one_cell(notebook_page: Callable) -> None:
    page = notebook_page()
    made = tally.summary(mnist())
    assert made._repr_html_() is None
    page.shell.execution_count = 2
    assert made._repr_html_().startswith('<div class="tally">')


def test_every_verb_is_shown_as_html(notebook_page: Callable) -> None:
    page = notebook_page()
    show(Document((Note("1 < 2"),)))
    assert "1 &lt; 2" in page.shown[0]["text/html"]


def test_print_fn_gets_text_in_a_notebook_too(notebook_page: Callable) -> None:
    page = notebook_page()
    lines: list[str] = []
    made = tally.summary(mnist(), print_fn=lines.append)
    assert page.shown == []
    assert lines[0].startswith('Model: "mnist"')
    assert made._repr_html_() is not None


def test_what_was_redirected_is_text(notebook_page: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    page = notebook_page()
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    tally.summary(mnist())
    assert page.shown == []
    assert "Total params: 34,826" in text.getvalue()


def test_ipython_in_a_terminal_is_no_notebook(notebook_page: Callable) -> None:
    page = notebook_page()
    page.shell.kernel = None
    assert notebook.running_cell() is None
    tally.summary(mnist())
    assert "Total params: 34,826" in page.printed.getvalue()


def test_a_model_shows_its_summary(notebook_page: Callable) -> None:
    page = notebook_page()
    model = tally.Sequential([tally.Input((10,)), tally.layers.Dense(5)], name="tiny")
    assert "Total params:" in model._repr_html_()
    assert page.shown == []
