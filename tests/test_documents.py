"""The Python blocks of the pages under docs/ run as they stand."""

import re
from pathlib import Path

import pytest

DOCUMENTS = Path(__file__).parents[1] / "docs"
PAGES = ["migration.md"]


def blocks(page):
    text = (DOCUMENTS / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.filterwarnings("ignore:`tf.layers.dense` is deprecated")
@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in PAGES for number in range(len(blocks(page)))],
)
def test_a_block_runs(page, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = compile(blocks(page)[number], f"{page}, block {number}", "exec")
    exec(code, {"__name__": page})


def test_names_on_the_page_of_migration_exist():
    import tfp_flows as tfpf

    text = (DOCUMENTS / "migration.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`tfpf\.([\w.]+)", text))
    assert len(named) > 20
    for dotted in named:
        part = tfpf
        for name in dotted.split("."):
            part = getattr(part, name)
