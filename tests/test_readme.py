"""What the README says is true: its code runs, and its output is what is printed."""

import re
from pathlib import Path

import pytest

import tally

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "Total params: 34,826 (136.04 KB)" in shown
    assert "0 (1 untracked)" in shown
    explained = []
    tally.explain(names["model"], print_fn=explained.append)
    for block in re.findall(r"```text\n(.*?)```", README, re.DOTALL):
        assert block in "\n".join(explained)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_exist(target):
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
