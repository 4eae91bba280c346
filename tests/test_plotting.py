"""Pictures: what they show, and that a file is whole or absent."""

import matplotlib.image
import numpy as np
import pytest

from tfp_flows import plotting

RNG = np.random.default_rng(0)


def pixels(figure):
    """The figure as it is drawn, [height, width, 4]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_learning_curve_shows_both_curves_and_lines():
    history = {"nll": [5.0, 3.0, 2.0], "val_nll": [5.5, 3.5, 2.6], "lr": [1, 1, 1]}
    axes = plotting.learning_curve(history, lines={"Gaussian": 4.0}).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert np.array_equal(lines["training"], history["nll"])
    assert np.array_equal(lines["held out"], history["val_nll"])
    assert set(lines) == {"training", "held out", "Gaussian (4.00)"}
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel() == "nll [nats]"
    with pytest.raises(
        ValueError, match="`metric` must be one of 'nll', 'val_nll', 'lr'"
    ):
        plotting.learning_curve(history, metric="accuracy")


@pytest.mark.parametrize(("n", "every"), [(4, 2), (5, 2), (7, 3), (3, 1)])
def test_held_out_values_of_every_few_epochs_stand_at_those(n, every):
    history = {"nll": np.arange(n), "val_nll": np.arange(n // every)}
    training, held_out = plotting.learning_curve(history).axes[0].lines
    assert list(training.get_xdata()) == list(range(1, n + 1))
    assert list(held_out.get_xdata()) == list(range(every, n + 1, every))


def test_learning_curve_does_not_let_the_first_epoch_flatten_the_rest():
    values = [1e6, *np.linspace(3.0, 2.0, 50), np.nan]
    axes = plotting.learning_curve({"nll": values}).axes[0]
    low, high = axes.get_ylim()
    assert low < 2.0
    assert 3.0 < high < 10.0
    lines = {"far": 50.0, "near": 12.0}
    axes = plotting.learning_curve({"nll": values}, lines=lines).axes[0]
    assert 12.0 < axes.get_ylim()[1] < 50.0


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_shows_every_image_in_order(channels):
    images = np.zeros([5, 8, 8, channels])
    images[:] = np.arange(5).reshape(5, 1, 1, 1) * 4
    shown = plotting.image_grid(images, pixel_levels=17, columns=3).axes[0].images[0]
    tiles = np.asarray(shown.get_array()).reshape(17, 26, channels)
    for index in range(5):
        top, left = 9 * (index // 3), 9 * (index % 3)
        tile = tiles[top : top + 8, left : left + 8]
        assert np.all(tile == round(index * 255 / 4))
    assert np.all(tiles[9:, 18:] == 255)


def test_rows_of_images_have_a_title_a_column():
    rows = RNG.uniform(0.0, 16.0, (2, 3, 8, 8, 1))
    axes = plotting.image_grid(rows, 16, title="all", column_titles="abc").axes[0]
    flat = plotting.image_grid(rows.reshape(6, 8, 8, 1), 16, columns=3).axes[0]
    assert np.array_equal(axes.images[0].get_array(), flat.images[0].get_array())
    assert axes.get_title() == "all"
    middles = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert list(middles) == ["a", "b", "c"]
    for index, middle in enumerate(middles.values()):
        left = 9 * index
        assert left < middle < left + 8


def test_image_grid_clips_and_survives_what_a_flow_may_sample():
    images = np.zeros([2, 4, 4, 1])
    images[0, 0, 0], images[0, 1, 1], images[1, 0, 0] = 1e9, -50.0, np.nan
    tiles = plotting.image_grid(images, pixel_levels=17).axes[0].images[0].get_array()
    assert tiles[0, 0] == 255
    assert tiles[1, 1] == tiles[0, 5] == 0


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 8, 2), (0, 8, 8, 1)])
def test_image_grid_refuses(shape):
    with pytest.raises(ValueError, match="`images` must have shape"):
        plotting.image_grid(np.zeros(shape))


def test_real_and_sampled_images_are_labelled():
    images = RNG.integers(0, 17, (9, 8, 8, 1))
    figure = plotting.real_and_sampled_images(images, images[::-1], pixel_levels=17)
    assert [axes.get_title() for axes in figure.axes] == ["real", "sampled"]


def test_density_map():
    data = RNG.normal(size=[500, 2]) * [2.0, 1.0]
    asked = []

    def log_prob(x):
        asked.append(x)
        return -0.5 * np.sum((x / [2.0, 1.0]) ** 2, axis=-1)

    figure = plotting.density_map(log_prob, data, data[:100], grid_points=50)
    (grid,) = asked
    assert grid.shape == (2500, 2)
    assert grid.dtype == np.float32
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["data", "sampled", "density of the flow"]
    for axes in figure.axes[:3]:
        assert axes.get_aspect() == 1.0
        assert axes.get_xlabel() == "$x_1$"
    mesh = figure.axes[2].collections[0]
    p = mesh.get_array()
    assert np.unravel_index(p.argmax(), p.shape) == pytest.approx((25, 25), abs=4)


def test_density_map_keeps_places_apart_that_float32_would_not():
    asked = []
    data = 1.7e9 + RNG.normal(size=[50, 2])
    log_prob = lambda x: asked.append(x) or np.zeros(len(x))  # noqa: E731
    plotting.density_map(log_prob, data, grid_points=10)
    assert len(np.unique(asked[0][:, 0])) == 10


def test_density_map_leaves_out_rows_that_are_not_finite():
    data = RNG.normal(size=[50, 2])
    data[0, 1], data[1, 0] = np.nan, np.inf
    figure = plotting.density_map(lambda x: np.zeros(len(x)), data, data, 10)
    for axes in figure.axes[:2]:
        assert np.array_equal(axes.collections[0].get_offsets(), data[2:])


def test_density_map_refuses_other_than_points():
    points = np.zeros([5, 2])
    with pytest.raises(ValueError, match="`data` must have the shape"):
        plotting.density_map(lambda x: x[:, 0], np.zeros([5, 3]))
    with pytest.raises(ValueError, match="`sampled` must have the shape"):
        plotting.density_map(lambda x: x[:, 0], points, np.zeros([0, 2]))
    with pytest.raises(ValueError, match="and finite rows"):
        plotting.density_map(lambda x: x[:, 0], np.nan * points)


def test_pair_plot_puts_real_below_and_sampled_above_the_diagonal():
    real, sampled = RNG.normal(size=[60, 3]), RNG.normal(size=[40, 3]) + 1.0
    figure = plotting.pair_plot(real, sampled, ["a", "b", "c"])
    grid = np.array(figure.axes).reshape(3, 3)
    assert np.allclose(grid[2, 0].collections[0].get_offsets(), real[:, [0, 2]])
    assert np.allclose(grid[0, 2].collections[0].get_offsets(), sampled[:, [2, 0]])
    assert [grid[2, j].get_xlabel() for j in range(3)] == ["a", "b", "c"]
    assert [grid[i, 0].get_ylabel() for i in range(3)] == ["a", "b", "c"]


def test_pair_plot_of_one_and_of_many_columns():
    assert len(plotting.pair_plot(RNG.normal(size=[20, 1]), np.ones([5, 1])).axes) == 1
    many = RNG.normal(size=[20, 40])
    assert len(plotting.pair_plot(many, many).axes) == 36
    with pytest.raises(ValueError, match="`real` and `sampled` must have"):
        plotting.pair_plot(many, many[:, :3])


def test_nothing_is_cut_off_at_the_rim():
    """The outermost pixels of every picture stay white."""
    tall = RNG.normal(size=[300, 2]) * [1.0, 3.0]
    figures = [
        plotting.learning_curve({"nll": [3.0, 2.0], "val_nll": [3.0, 2.5]}),
        plotting.real_and_sampled_images(*RNG.uniform(0, 256, (2, 9, 8, 8, 3))),
        plotting.density_map(lambda x: -(x[:, 0] ** 2), tall, tall, grid_points=20),
        plotting.density_map(lambda x: -(x[:, 0] ** 2), tall[:, ::-1], grid_points=20),
        plotting.pair_plot(tall, tall, ["a long name", "b"]),
    ]
    for figure in figures:
        drawn = pixels(figure)
        rim = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        assert np.all(rim == 255)
        assert np.any(drawn < 255)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_save(tmp_path, suffix):
    figure = plotting.image_grid(RNG.uniform(0, 256, (4, 8, 8, 1)))
    plotting.save(figure, tmp_path / f"grid{suffix}")
    assert (tmp_path / f"grid{suffix}").stat().st_size > 1000
    assert [p.name for p in tmp_path.iterdir()] == [f"grid{suffix}"]
    if suffix == ".png":
        assert matplotlib.image.imread(tmp_path / "grid.png").ndim == 3


def test_save_leaves_the_old_picture_when_drawing_fails(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    path.write_bytes(b"old")
    figure = plotting.image_grid(RNG.uniform(0, 256, (4, 8, 8, 1)))

    def full_disk(file, **_):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(figure, "savefig", full_disk)
    with pytest.raises(OSError, match="No space"):
        plotting.save(figure, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]


def test_save_refuses(tmp_path):
    figure = plotting.image_grid(np.zeros([1, 2, 2, 1]))
    with pytest.raises(ValueError, match="`path` must end in a picture format"):
        plotting.save(figure, tmp_path / "grid.csv")
    with pytest.raises(ValueError, match="`path` must lie in an existing folder"):
        plotting.save(figure, tmp_path / "missing" / "grid.png")
