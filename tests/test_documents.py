"""The Python blocks of the pages under docs/ run as they stand."""

import re
from pathlib import Path

import keras
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

DOCUMENTS = Path(__file__).parents[1] / "docs"
PAGES = ["migration.md", "posteriors.md"]
LIBRARIES = {"tfpf": tfpf, "tfp": tfp, "keras": keras}
LIBRARIES |= {"tfb": tfp.bijectors, "tfd": tfp.distributions}


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


@pytest.mark.parametrize(
    ("page", "least"), [("migration.md", 20), ("features.md", 99), ("posteriors.md", 5)]
)
def test_names_on_a_page_exist(page, least):
    text = (DOCUMENTS / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(tfpf|tfb|tfd|tfp|keras)((?:\.\w+)+)", text))
    assert len(named) > least
    for library, names in named:
        part = LIBRARIES[library]
        for name in names[1:].split("."):
            part = getattr(part, name)


def test_the_counts_of_features_are_those_of_the_rows():
    text = (DOCUMENTS / "features.md").read_text(encoding="utf-8")
    counted = re.search(r"\| \*\*all\*\* \|([\d |]+)\|\n", text)[1].split("|")
    rows = re.findall(r"\| (yes|by TFP|in part|\*\*no\*\*): [^|]+ \|\n", text)
    kinds = ("yes", "by TFP", "in part", "**no**")
    assert [*map(int, counted)] == [*map(rows.count, kinds), len(rows)]


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
