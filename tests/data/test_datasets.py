"""`load`: splits, batches, noise, and image sets of TFDS."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfp_flows import data as flow_data
from tfp_flows.data import tfds_images, toy

# Reading a set made of fake examples draws warnings from TFDS's own code.
QUIET = "ignore::DeprecationWarning"
FASHION_FILES = 4


def collect(dataset):
    return np.concatenate([batch.numpy() for batch in dataset])


def test_digits():
    data = flow_data.load("digits")
    assert data.event_shape == (8, 8, 1)
    assert data.pixel_levels == 17
    assert (len(data.x_train), len(data.x_test)) == (1500, 297)
    assert (len(data.labels_train), len(data.labels_test)) == (1500, 297)
    train, test = data
    x = collect(train)
    assert x.shape == (1500, 8, 8, 1)
    assert x.dtype == np.float32
    assert x.min() >= 0.0
    assert 16.5 < x.max() < 17.0
    assert np.array_equal(np.floor(collect(test)), data.x_test)


def test_training_noise_is_fresh_and_held_out_noise_fixed():
    data = flow_data.load("digits", batch_size=100)
    train, test = data
    first, second = collect(train), collect(train)
    assert not np.array_equal(np.sort(first % 1, axis=0), np.sort(second % 1, axis=0))
    assert np.array_equal(collect(test), collect(test))
    assert not np.array_equal(collect(test), collect(data.evaluation(1)))
    assert np.array_equal(collect(test), collect(data.evaluation(0)))


def test_held_out_noise_does_not_depend_on_the_batch_size():
    default = collect(flow_data.load("digits").test)
    for batch_size in (1, 100, 1000):
        other = flow_data.load("digits", batch_size=batch_size).test
        assert np.array_equal(default, collect(other))


@pytest.mark.parametrize("batch_size", [7, 50, 500])
def test_datasets_say_how_many_batches_they_have(batch_size):
    """Keras warns that data ran out if it was not told where the data ends."""
    data = flow_data.load("digits", batch_size=batch_size)
    for batches in data:
        assert batches.cardinality() == sum(1 for _ in batches)


def test_every_epoch_sees_every_example_once_in_a_new_order():
    train, _ = flow_data.load("two_moons", batch_size=999)
    first, second = collect(train), collect(train)
    assert len(first) == 100_000
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first, axis=0), np.sort(second, axis=0))
    assert int(train.cardinality()) == 101


def test_seed_changes_order_and_noise_but_never_the_split():
    one, again, two = (flow_data.load("digits", seed=s) for s in (1, 1, 2))
    assert np.array_equal(collect(one.train), collect(again.train))
    assert not np.array_equal(collect(one.train), collect(two.train))
    assert np.array_equal(one.x_test, two.x_test)


def test_training_and_held_out_digits_are_disjoint_images():
    data = flow_data.load("digits")
    train = {image.tobytes() for image in data.x_train}
    assert not any(image.tobytes() in train for image in data.x_test)


@pytest.mark.parametrize("name", sorted(toy.TOY_SETS))
def test_toy_sets(name):
    data = flow_data.load(name)
    assert data.event_shape == (2,)
    assert data.kind == "toy"
    assert data.true_entropy == toy.true_entropy(name)
    nll = -np.mean(toy.log_density(name, data.x_test))
    assert nll == pytest.approx(data.true_entropy, abs=0.05)
    assert not np.array_equal(data.x_train[:100], data.x_test[:100])


def test_test_fraction():
    data = flow_data.load("digits", test_fraction=0.5)
    assert (len(data.x_train), len(data.x_test)) == (899, 898)
    assert len(data.labels_test) == 898
    for fraction in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="`test_fraction` must be between"):
            flow_data.load("digits", test_fraction=fraction)
    with pytest.raises(ValueError, match="`test_fraction` must leave examples"):
        flow_data.load("digits", test_fraction=1e-9)


def test_table_file(tmp_path):
    path = tmp_path / "wine.csv"
    x = np.random.default_rng(0).normal(size=(50, 2))
    np.savetxt(path, x, delimiter=",", header="acid,sugar", comments="")
    data = flow_data.load(path, batch_size=7)
    assert data.kind == "table"
    assert data.columns == ("acid", "sugar")
    assert (data.x_train.shape, data.x_test.shape) == ((40, 2), (10, 2))
    both = np.concatenate([collect(data.train), collect(data.test)])
    sort = np.sort(x.astype(np.float32), axis=0)
    np.testing.assert_allclose(np.sort(both, axis=0), sort, rtol=1e-6)


def test_image_file_and_bits(tmp_path):
    path = tmp_path / "images.npy"
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    np.save(path, images)
    data = flow_data.load(path)
    assert (data.kind, data.pixel_levels, data.columns) == ("image", 256, None)
    coarse = flow_data.load(path, n_bits=3)
    assert coarse.pixel_levels == 8
    assert np.array_equal(coarse.x_train, data.x_train // 32)
    assert collect(coarse.train).max() < 8.0
    np.save(path, images / 255.0)
    assert flow_data.load(path).pixel_levels is None


def test_wrong_arguments(tmp_path):
    with pytest.raises(
        ValueError, match="`batch_size` must be an integer of at least 1"
    ):
        flow_data.load("digits", batch_size=0)
    with pytest.raises(ValueError, match="`n_bits` must be None.*'digits'"):
        flow_data.load("digits", n_bits=3)
    with pytest.raises(ValueError, match="must be an existing file"):
        flow_data.load(tmp_path / "missing.csv")
    with pytest.raises(ValueError, match="must be an existing file"):
        flow_data.load(tmp_path)
    (tmp_path / "notes.txt").write_text("1 2")
    with pytest.raises(ValueError, match="must end in one of"):
        flow_data.load(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="toy set, `digits`, a file or a TFDS"):
        flow_data.load("no_such_set")


@pytest.fixture
def unreachable(monkeypatch):
    """No server answers, whether or not this machine has a network."""
    monkeypatch.setattr(tfds_images, "_answers", lambda url: False)


@pytest.mark.usefixtures("unreachable")
def test_no_network_and_no_copy_is_one_quick_sentence(tmp_path):
    start = time.monotonic()
    with pytest.raises(ValueError, match="cifar-10-binary.tar.gz into") as caught:
        flow_data.load("cifar10", data_dir=tmp_path)
    assert time.monotonic() - start < 20.0
    assert str(tmp_path / "downloads" / "manual") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unreachable")
def test_tfds_data_dir_of_the_environment_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=str(tmp_path)):
        flow_data.load("mnist")


def test_an_unreachable_server_is_noticed_at_once():
    start = time.monotonic()
    assert not tfds_images._answers("http://127.0.0.1:9/nothing")
    assert time.monotonic() - start < 5.0


def test_sets_without_images_are_refused():
    with pytest.raises(ValueError, match="TFDS set of 8-bit images"):
        flow_data.load("iris")


@pytest.fixture
def made_up_tfds(monkeypatch):
    """TFDS sets of 30 made-up examples, whose servers all answer."""
    monkeypatch.setattr(tfds_images, "_answers", lambda url: True)
    with tfds.testing.mock_data(30, policy=tfds.testing.MockPolicy.USE_CODE):
        yield


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.usefixtures("made_up_tfds")
def test_tfds_image_set(tmp_path):
    """Any image set: here of CIFAR-10's shape. Made-up sets have no test split."""
    data = flow_data.load("cifar10", data_dir=tmp_path, n_bits=5, image_size=16)
    assert data.event_shape == (16, 16, 3)
    assert (len(data.x_train), len(data.x_test)) == (24, 6)
    assert data.x_train.dtype == np.uint8
    assert data.x_train.max() < data.pixel_levels == 32
    assert (len(data.labels_train), len(data.labels_test)) == (24, 6)


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.usefixtures("made_up_tfds")
def test_tfds_set_of_many_image_sizes_needs_one(tmp_path):
    with pytest.raises(ValueError, match="`image_size` must be given"):
        flow_data.load("tf_flowers", data_dir=tmp_path)
    data = flow_data.load("tf_flowers", data_dir=tmp_path, image_size=(8, 12))
    assert data.event_shape == (8, 12, 3)


def fashion_mnist_files():
    """The original files: named by a variable, or in a folder beside the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "fashion_mnist"
    folder = Path(os.environ.get("TFP_FLOWS_FASHION_MNIST", beside))
    found = sorted(folder.glob("*-ubyte.gz"))
    if len(found) != FASHION_FILES:
        pytest.skip(f"TFP_FLOWS_FASHION_MNIST names no folder with the files: {folder}")
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("unreachable")
@pytest.mark.filterwarnings(QUIET)
def test_fashion_mnist_from_manual_downloads(tmp_path):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for file in fashion_mnist_files():
        shutil.copy(file, manual)
    data = flow_data.load("fashion_mnist", data_dir=tmp_path)
    assert (data.x_train.shape, data.x_test.shape) == (
        (60_000, 28, 28, 1),
        (10_000, 28, 28, 1),
    )
    assert np.array_equal(np.bincount(data.labels_train), np.full(10, 6_000))
    assert data.pixel_levels == 256
    # The set's published mean pixel value is 0.2860 of white.
    assert data.x_train.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


def test_hold_back():
    data = flow_data.load("digits")
    kept, back = data.hold_back(0.1)
    assert (len(kept.x_train), len(back.x_test)) == (1350, 150)
    assert len(back.labels_test) == 150
    assert np.array_equal(kept.x_test, data.x_test)
    parts = np.concatenate([kept.x_train, back.x_test])
    assert {x.tobytes() for x in parts} == {x.tobytes() for x in data.x_train}
    again, _ = data.hold_back(0.1)
    assert np.array_equal(again.x_train, kept.x_train)
