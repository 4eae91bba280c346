"""The house rules that a linter does not know."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "tfp_flows"

# A module imports only from its own room or from one that stands earlier here.
ROOMS = (
    "internal",
    "nets",
    "bijectors",
    "distributions",
    "architectures",
    "saving",
    "training",
    "serving",
    "testing",
    "inference",
    "interop",
    "images",
    "tables",
    "text",
    "speech",
    "latent",
    "anomaly",
    "representation",
    "data",
    "plotting",
    "cli",
)
MODULES = sorted(path.relative_to(REPOSITORY) for path in PACKAGE.rglob("*.py"))
FOLDERS = ("benchmarks", "docs", "export", "notebooks", "tests")
ENDINGS = {".md", ".toml", ".py", ".sh", ".c", ".cc", ".h", ".yml", ".yaml", ".config"}
TEXTS = sorted(
    path.relative_to(REPOSITORY)
    for pattern in ("*", *(f"{folder}/**/*" for folder in FOLDERS))
    for path in REPOSITORY.glob(pattern)
    if path.suffix in ENDINGS and path.name != Path(__file__).name
)


def imported_modules(path, source):
    """Yields the dotted names that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.with_suffix("").parts)[: -node.level or None]
            start = ".".join(package) + "." if node.level else ""
            module = (start + (node.module or "")).rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(dotted):
    """Names the part of the package that `tfp_flows.<part>...` lies in."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "tfp_flows" and len(parts) > 1 else None


def broken_rules(path, source):
    """Returns one sentence for each import that the house forbids."""
    own = part_of(".".join(path.with_suffix("").parts))
    broken = []
    for name in imported_modules(path, source):
        other = part_of(name)
        if other is not None and not _may_import(own, other):
            broken.append(f"{path}: `{own}` must not import `{name}`")
        if own == "nets" and name.startswith("tensorflow_probability"):
            broken.append(f"{path}: `nets` must not import TFP")
        if name.partition(".")[0] in ("tf_keras", "pickle", "dill", "cloudpickle"):
            broken.append(f"{path}: nothing imports `{name}`")
        if (
            name.startswith("tensorflow_probability.python")
            and path.name != "compat.py"
        ):
            broken.append(f"{path}: only internal/compat.py imports `{name}`")
        if name.startswith("keras.src"):
            broken.append(f"{path}: nothing imports Keras's private `{name}`")
    return broken


def _may_import(own, other):
    if own not in ROOMS or other not in ROOMS:
        # The package's own face, such as `tfp_flows.__version__`.
        return True
    return ROOMS.index(other) <= ROOMS.index(own)


def test_imports_point_down_the_list():
    assert MODULES
    assert [
        rule
        for path in MODULES
        for rule in broken_rules(path, (REPOSITORY / path).read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("bijectors/a.py", "from tfp_flows.training.model import FlowModel"),
        ("bijectors/a.py", "from tfp_flows import training"),
        ("bijectors/a.py", "from ..architectures import glow"),
        ("bijectors/a.py", "def f():\n    import tfp_flows.cli"),
        ("saving/a.py", "from tfp_flows.training import model"),
        ("serving/a.py", "import tfp_flows.testing.check_bijector"),
        ("training/a.py", "from tfp_flows.plotting import pair_plot"),
        ("data/a.py", "from tfp_flows.cli import app"),
        ("plotting/a.py", "from tfp_flows import cli"),
        ("nets/a.py", "import tensorflow_probability as tfp"),
        ("training/a.py", "import pickle"),
        ("training/a.py", "from tf_keras import layers"),
        ("training/a.py", "from keras.src import backend"),
        ("text/a.py", "from tensorflow_probability.python.internal import cache_util"),
    ],
)
def test_a_forbidden_import_is_found(path, line):
    assert len(broken_rules(Path("tfp_flows", path), line)) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("bijectors/a.py", "from tfp_flows.nets import MLP"),
        ("bijectors/a.py", "from . import base"),
        ("tables/a.py", "from tfp_flows.training import model"),
        ("cli.py", "from tfp_flows import data, plotting, serving"),
        ("__init__.py", "from tfp_flows import data"),
    ],
)
def test_a_permitted_import_passes(path, line):
    assert broken_rules(Path("tfp_flows", path), line) == []


# A path of one machine, a number of a tracker (a colour has six digits), unfinished
# work.
FORBIDDEN = re.compile(
    r"(?<![\w.])/(home|root|work|Users|mnt)/"
    r"|(?i:\bissues? #?\d)|(?<![\w&])#\d{1,5}\b(?![-\w])"
    r"|\b(TODO|FIXME|XXX|HACK)\b"
)


def lines_of(path):
    return (REPOSITORY / path).read_text(encoding="utf-8").splitlines()


def test_texts_make_sense_to_a_stranger():
    assert Path("README.md") in TEXTS
    assert [
        f"{path}, line {number}: {line.strip()}"
        for path in {*TEXTS, *MODULES}
        for number, line in enumerate(lines_of(path), 1)
        if FORBIDDEN.search(line)
    ] == []


@pytest.mark.parametrize(
    "text", ["see /home/me/notes.txt", "as issue 12 says", "fixes #3", "# TODO: all"]
)
def test_a_forbidden_word_is_found(text):
    assert FORBIDDEN.search(text)
