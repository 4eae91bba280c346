"""The Python blocks of the pages under docs/ run as they stand."""

import re
from pathlib import Path

import keras
import pytest
import tensorflow as tf

import tfp_flows as tfpf

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
    text = (DOCUMENTS / "migration.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`tfpf\.([\w.]+)", text))
    assert len(named) > 20
    for dotted in named:
        part = tfpf
        for name in dotted.split("."):
            part = getattr(part, name)


def test_the_own_bijector_of_the_readme_keeps_the_laws(tmp_path, monkeypatch):
    text = (DOCUMENTS.parent / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (block,) = (block for block in found if "class Scale(" in block)
    definition = block.partition("\n\n\n")[0]
    assert len(definition.splitlines()) <= 14
    monkeypatch.chdir(tmp_path)
    names = {"keras": keras, "tf": tf, "tfpf": tfpf}
    exec(block, names)
    scale = names["Scale"](4)
    assert tfpf.check_bijector(scale, tf.random.normal((16, 4))).ok
    repeated = tfpf.load_bijector(tmp_path / "scales.keras")
    assert repeated.forward(tf.ones([2, 4])).shape == (2, 4)
