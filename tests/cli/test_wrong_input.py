"""Wrong input: one line, exit code 2, and nothing half-written."""

import numpy as np
import pytest

from tfp_flows.data import tfds_images

VERBS = ("train", "evaluate", "sample", "export", "check")
GOOD = ("--flow", "real_nvp", "--epochs", "1")


def refuse(invoke, tmp_path, arguments, message):
    """Calls a verb that must refuse, and checks how it does."""
    before = sorted(tmp_path.rglob("*"))
    result = invoke(*arguments)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert result.stderr.startswith("tfp-flows: ")
    assert result.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


BROKEN_TABLES = {
    "nan": ("a,b\n" + "1,2\n2,3\n" * 10 + "nan,1\n", "nan in row 21, column 'a'"),
    "text": ("a,b\n" + "1,x\n2,y\n" * 10, "Column 'b' of"),
    "constant": ("a,b\n" + "1,2\n2,2\n" * 10, "every row of 'b'"),
    "few": ("a,b\n1,2\n2,1\n", "at least 10 rows. Received: 2"),
    "ragged": ("a,b\n" + "1,2\n" * 10 + "1,2,3\n", "cannot be read as a table"),
}


@pytest.mark.parametrize("case", BROKEN_TABLES)
def test_broken_tables(invoke, tmp_path, case):
    text, message = BROKEN_TABLES[case]
    path, out = tmp_path / "table.csv", tmp_path / "run"
    path.write_text(text)
    refuse(invoke, tmp_path, ("train", "--data", path, *GOOD, "--out", out), message)


WRONG_TRAINING = {
    "missing file": (["--data", "missing.csv"], "must be an existing file"),
    "unknown data": (["--data", "no_such_set"], "must be a toy set, `digits`"),
    "no data": ([], "Missing option '--data'"),
    "unknown flow": (["--data", "digits", "--flow", "flux"], "'flux' is not one of"),
    "unknown option": (["--data", "digits", "--deepness", "3"], "No such option"),
    "text for number": (["--data", "digits", "--epochs", "few"], "'--epochs'"),
    "no epochs": (["--data", "digits", "--epochs", "0"], "`--epochs` must be positive"),
    "rate": (["--data", "digits", "--learning-rate", "-1"], "`--learning-rate` must"),
    "foreign": (["--data", "rings", "--flow", "glow", "--bins", "4"], "`--bins` must"),
    "widths": (["--data", "rings", "--hidden-units", "8,x"], "widths such as 128,128"),
    "width": (["--data", "rings", "--hidden-units", "0"], "widths such as 128,128"),
    "couplings": (["--data", "rings", "--flow", "nice", "--couplings", "1"], "`steps`"),
    "levels": (["--data", "digits", "--flow", "glow", "--levels", "9"], "divisible"),
    "bits": (["--data", "digits", "--n-bits", "3"], "`n_bits` must be None"),
    "fraction": (["--data", "digits", "--test-fraction", "2"], "`test_fraction` must"),
    "key": (["--data", "digits", "--key", "x"], "`key` must be None for digits"),
    "size": (["--data", "digits", "--image-size", "4"], "`image_size` must be None"),
    "resume": (["--data", "digits", "--resume"], "`--resume` must name an interrupted"),
}


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "cifar10"])
def test_image_sets_without_a_copy_or_a_network(invoke, tmp_path, monkeypatch, name):
    monkeypatch.setattr(tfds_images, "_answers", lambda url: False)
    folders = ("--data-dir", tmp_path / "tfds", "--out", tmp_path / "run")
    message = "has no copy in"
    refuse(invoke, tmp_path, ("train", "--data", name, *folders), message)


@pytest.mark.parametrize("case", WRONG_TRAINING)
def test_wrong_training_arguments(invoke, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    arguments, message = WRONG_TRAINING[case]
    refuse(invoke, tmp_path, ("train", *arguments), message)


def test_an_occupied_folder_is_left_alone(invoke, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    refuse(
        invoke,
        tmp_path,
        ("train", "--data", "rings", *GOOD, "--out", tmp_path),
        "must be a new or empty folder",
    )
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_evaluate_refuses(run, invoke, tmp_path):
    wide, other = tmp_path / "wide.npy", tmp_path / "other.csv"
    one, deep = tmp_path / "one.npy", tmp_path / "deep.npy"
    np.save(wide, np.ones([5, 4]))
    np.save(one, np.ones(5))
    np.save(deep, np.ones([5, 4, 3]))
    other.write_text("a,b,c\n1,2,3\n")
    for data, message in {
        wide: "examples of the shape (3,)",
        one: "with examples of (1,)",
        deep: "Received: the shape (5, 4, 3)",
        other: "must have the columns that the flow was trained on, acid, sugar",
        "digits": "examples of the shape (3,)",
        "missing.npy": "must be an existing file",
    }.items():
        refuse(invoke, tmp_path, ("evaluate", run, "--data", data), message)
    size = ("evaluate", run, "--data", one, "--image-size", "4")
    refuse(invoke, tmp_path, size, "`image_size` must be None")


def test_evaluate_refuses_what_has_no_density(image_run, invoke, tmp_path):
    bright = tmp_path / "bright.npy"
    np.save(bright, np.full([2, 8, 8, 1], 200, np.uint8))
    refuse(
        invoke,
        tmp_path,
        ("evaluate", image_run, "--data", bright),
        "2 of 2 examples without a finite log-density",
    )


def test_wrong_models(invoke, table, tmp_path):
    damaged = tmp_path / "broken.keras"
    damaged.write_bytes(b"no archive")
    for model, message in {
        tmp_path / "missing.keras": "missing.keras, which does not exist",
        tmp_path / "missing": "missing, which does not exist",
        tmp_path: "the folder of a finished run with flow.keras in it. Received: /",
        table: "must be a .keras file or the folder of a finished run",
        damaged: "is not a whole archive",
    }.items():
        for verb in (
            ("evaluate", model, "--data", "rings"),
            ("sample", model, "--out", tmp_path / "x.npy"),
            ("export", model, "--out", tmp_path / "models"),
            ("check", model),
        ):
            refuse(invoke, tmp_path, verb, message)


def test_sample_refuses(run, invoke, tmp_path):
    for out, message in {
        "x.txt": "must end in .npy, .csv",
        "nowhere/x.npy": "must lie in an existing folder",
        "x.png": "neither images nor points",
    }.items():
        refuse(invoke, tmp_path, ("sample", run, "--out", tmp_path / out), message)
    for option, value, message in (
        ("-n", "0", "'-n'"),
        ("--temperature", "-1", "'--temperature'"),
        ("--temperature", "inf", "`temperature` must be finite"),
    ):
        arguments = ("sample", run, "--out", tmp_path / "x.npy", option, value)
        refuse(invoke, tmp_path, arguments, message)


def test_help_and_no_verb(invoke):
    for arguments in ((), ("--help",), *((v, "--help") for v in VERBS)):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "tfp-flows" in result.stdout
    assert invoke("tarin").exit_code == 2
