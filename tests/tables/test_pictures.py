"""Pictures of real and sampled tables show both, with names and words for ticks."""

import numpy as np
import pyarrow as pa
import pytest

from tfp_flows import tables


def test_each_column_has_a_panel(table, more):
    figure = tables.marginals_figure(table, more)
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_xlabel() for axes in panels] == table.column_names
    by_name = {axes.get_xlabel(): axes for axes in panels}
    words = [tick.get_text() for tick in by_name["region"].get_xticklabels()]
    assert words == ["north", "south", "west"]
    # Shares of categories and areas below densities are one.
    shares = [bar.get_height() for bar in by_name["region"].patches]
    np.testing.assert_allclose(sum(shares), 2.0)
    steps = by_name["income"].patches[0].get_data()
    area = np.sum(steps.values * np.diff(steps.edges))
    assert 0.97 < area <= 1.0
    figure.canvas.draw()


def test_pairs_have_real_below_and_sampled_above(table, more):
    names = ["height", "income", "region"]
    figure = tables.pairs_figure(table, more, names)
    grid = np.array(figure.axes).reshape(3, 3)
    assert [axes.get_xlabel() for axes in grid[-1]] == names
    below = grid[1, 0].collections[0].get_offsets()
    np.testing.assert_allclose(below[:, 0], table["height"].to_numpy())
    above = grid[0, 1].collections[0].get_offsets()
    np.testing.assert_allclose(above[:, 1], more["height"].to_numpy())
    assert len(tables.pairs_figure(table, more).axes) == 36
    figure.canvas.draw()


def test_missing_values_have_a_word_or_are_left_out():
    values = pa.table({"a": ["x", None, "y"], "b": [1.0, None, np.nan]})
    figure = tables.marginals_figure(values, values)
    words = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert words == ["missing", "x", "y"]
    assert len(figure.axes[1].patches) > 0


def test_a_column_that_is_not_there_is_named(table):
    with pytest.raises(ValueError, match="`sampled` must have the columns.*'income'"):
        tables.marginals_figure(table, table.drop_columns("income"))
