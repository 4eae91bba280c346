"""Kinds are inferred or chosen, values come back in their types, or are refused."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_probability as tfp

from tfp_flows import saving as serialization
from tfp_flows import tables
from tfp_flows.tables import Categorical, Continuous, Integer, Schema

tfb = tfp.bijectors

N = 20
NUMBERS = np.linspace(0.1, 9.9, N)
WHOLE = np.arange(N) % 7
# What polars hands over of its `Categorical` and `Enum`.
VIEWS = pa.DictionaryArray.from_arrays(
    pa.array([2, 0] * 10, pa.uint8()),
    pa.array(["low", "middle", "high"], pa.string_view()),
    ordered=True,
)


def one(values, **columns):
    return Schema.infer({"a": values}, columns or None).columns["a"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (NUMBERS, Continuous),
        (NUMBERS.astype("float32"), Continuous),
        (WHOLE, Integer),
        (WHOLE.astype("uint8"), Integer),
        (WHOLE.astype("float64"), Integer),
        (pa.array(WHOLE.astype("int32")).cast(pa.date32()), Integer),
        (1e19 * np.exp(0.1 * NUMBERS), Continuous),
        (WHOLE % 2, Categorical),
        (WHOLE % 2 == 0, Categorical),
        (["x", "y"] * 10, Categorical),
        (pa.array(["x", "y"] * 10).dictionary_encode(), Categorical),
        (pa.array(["x", "y"] * 10, pa.large_string()), Categorical),
        (pa.array(["x", "y"] * 10, pa.string_view()), Categorical),
        (VIEWS, Categorical),
    ],
)
def test_kinds_are_inferred(values, kind):
    assert type(one(values)) is kind


def test_kinds_can_be_chosen():
    assert type(one(WHOLE, a="continuous")) is Continuous
    assert one(WHOLE, a="categorical").categories == tuple(range(7))
    assert one(NUMBERS, a=Continuous("log")).bijector().name == "log"
    assert one(NUMBERS, a=Continuous("standard")).bijector().name == "standard"
    own = tfb.Softplus(np.float64(1.0))
    assert one(NUMBERS, a=Continuous(own)).bijector() is own
    assert one(WHOLE, a=Integer(high=6.0)).high == 6.0
    assert one(NUMBERS, a=Continuous(knots=5)).bijector()._knots[1].shape == (5,)
    letters = one(["x", "y"] * 10, a=Categorical(("z", "y", "x")))
    assert letters.categories == ("z", "y", "x")


def test_rows_come_back_as_they_were(table):
    schema = Schema.infer(table)
    rows = schema.encode(table)
    assert rows.shape == (table.num_rows, table.num_columns)
    assert rows.dtype == np.float64
    again = schema.decode(rows)
    assert again.schema.equals(table.schema)
    assert again.to_pydict() == table.to_pydict()


def test_types_of_every_width_come_back():
    names = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
    typed = {name: pa.array(WHOLE.astype(name)) for name in names.split()}
    typed["large"] = pa.array(["x", "y"] * 10, pa.large_string())
    typed["ordered"] = pa.DictionaryArray.from_arrays(
        pa.array([1, 0] * 10, pa.int8()), pa.array(["low", "high"]), ordered=True
    )
    table = pa.table(typed)
    again = Schema.infer(table).decode(Schema.infer(table).encode(table))
    assert again.schema.equals(table.schema)
    assert again.to_pydict() == table.to_pydict()


@pytest.mark.parametrize("form", ["arrays", "frame", "series"])
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(">f8", "float64"), (">f4", "float32"), (">i4", "int32"), ("longdouble", None)],
)
def test_arrays_in_any_byte_order_and_width(dtype, stored, form):
    table = {"a": NUMBERS.astype(dtype)}
    if form != "arrays":
        frame = pytest.importorskip("pandas").DataFrame(table)
        table = frame if form == "frame" else dict(frame)
    own = {"a": NUMBERS.astype(stored or "float64")}
    schema = Schema.infer(table)
    assert schema.arrow.equals(Schema.infer(own).arrow)
    assert np.array_equal(schema.encode(table), schema.encode(own))


def test_views_of_text_come_back_as_text():
    values = pa.chunked_array([["x", None, "y"], ["y", "x", "y"]] * 4, pa.string_view())
    table = pa.table({"a": values, "b": pa.concat_arrays([VIEWS, VIEWS[:4]])})
    schema = Schema.infer(table, {"a": Categorical(missing=True)})
    assert schema.columns["b"].categories == ("low", "high")
    assert schema.arrow.field("b").type.ordered
    again = schema.decode(schema.encode(table))
    assert again["a"].type == pa.large_string()
    assert again.to_pydict() == table.to_pydict()


@pytest.mark.parametrize("dtype", ["int8", "int64", "float64"])
def test_truth_values_may_come_as_0_and_1_and_as_no_other_number(dtype):
    schema = Schema.infer({"a": WHOLE % 2 == 0, "b": NUMBERS})
    numbers = {"a": (WHOLE % 2 == 0).astype(dtype), "b": NUMBERS}
    places = schema.encode(numbers)[:, 0]
    assert np.array_equal(places, WHOLE % 2 == 0)
    numbers["a"] = numbers["a"] * 2
    with pytest.raises(ValueError, match="'a' must hold its categories.* 2(.0)? in ro"):
        schema.encode(numbers)


def test_decoded_integers_keep_to_the_range_of_their_type():
    schema = Schema.infer({"a": WHOLE.astype("int8")})
    assert schema.decode([[1e9], [-1e9]])["a"].to_pylist() == [127, -128]
    whole = Schema.infer({"a": WHOLE}, {"a": "continuous"})
    assert whole.decode([[2.6]])["a"].to_pylist() == [3]


def test_columns_may_come_in_another_order_and_type(table):
    schema = Schema.infer(table)
    mixed = table.select(table.column_names[::-1]).set_column(
        0, "rooms", table["rooms"].cast(pa.int64())
    )
    np.testing.assert_array_equal(schema.encode(mixed), schema.encode(table))


def test_missing_can_be_a_category():
    values = ["x", None, "y", None, "x"] * 4
    for kind in (pa.string(), pa.dictionary(pa.int8(), pa.string())):
        table = pa.table({"a": pa.array(values, kind)})
        schema = Schema.infer(table, {"a": Categorical(missing=True)})
        assert schema.width == 3
        again = schema.decode(schema.encode(table))
        assert again["a"].to_pylist() == values
        assert again.schema.equals(table.schema)
    numbers = pa.table({"a": pa.array([1.0, np.nan, 2.0, None] * 5)})
    schema = Schema.infer(numbers, {"a": Categorical(missing=True)})
    again = schema.decode(schema.encode(numbers))
    assert again["a"].to_pylist() == [1.0, None, 2.0, None] * 5


def test_incomplete_rows_are_left_out_on_request():
    table = {"a": [1.0, None, np.nan, 4.0], "b": ["x", "y", "z", None]}
    complete = tables.complete_rows(table)
    assert complete.to_pydict() == {"a": [1.0], "b": ["x"]}


def test_order_of_a_dictionary_is_kept():
    values = pa.DictionaryArray.from_arrays(
        pa.array([2, 0] * 10), pa.array(["low", "middle", "high"])
    )
    assert one(values).categories == ("low", "high")


def test_supports(table):
    schema = Schema.infer(table, {"income": Continuous("log")})
    rows = schema.encode(table)
    assert schema.supports(rows).all()
    rows[0, table.column_names.index("income")] = 0.0
    rows[1, table.column_names.index("visits")] = -1.0
    assert np.flatnonzero(~schema.supports(rows)).tolist() == [0, 1]


def test_descriptions_bring_the_schema_back(table):
    schema = Schema.infer(table, {"income": Continuous("log")})
    again = serialization.deserialize(serialization.serialize(schema))
    assert again.arrow.equals(schema.arrow)
    assert str(again) == str(schema)
    np.testing.assert_array_equal(again.encode(table), schema.encode(table))
    x = np.random.default_rng(0).normal(size=(5, schema.width))
    np.testing.assert_array_equal(
        again.bijector().forward(x), schema.bijector().forward(x)
    )


DAY = datetime.datetime(2020, 1, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.5] * N, "'a' must have at least 2 different values.*no density; drop it"),
        (["x"] * N, "'a' must have at least 2 different values; drop it"),
        ([None] * N, "'a' must hold numbers, dates, text or truth values"),
        ([DAY] * N, "'a' must hold numbers, dates, .* type timestamp"),
        ([[1]] * N, "'a' must hold numbers, dates, .* type list"),
        ([f"id{i}" for i in range(60)], "'a' must have at most 50 different values"),
        ([*NUMBERS, None], r"'a' must have a value in every row.*1 missing .* row 21"),
        ([*NUMBERS[:5], np.nan, *NUMBERS], "complete_rows.* the first in row 6"),
        ([*NUMBERS, np.inf], "'a' must hold finite numbers. Received: inf in row 21"),
        (["x", "y", None] * 9, r"`Categorical\(missing=True\)`. Received: 9 missing"),
        ([2**60 + i for i in range(N)], r"whole numbers up to 2\*\*53"),
        (NUMBERS[:5], "`table` must have columns and at least 10 rows"),
    ],
)
def test_what_cannot_be_modelled_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        Schema.infer({"a": values})


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (NUMBERS, "integer", "'a' must hold whole numbers.* 0.1 in row 1"),
        (["x", "y"] * 10, "continuous", "'a' must hold numbers. Received: .* string"),
        (2.0**52 + WHOLE, "integer", r"'a' must hold whole numbers below 2\*\*52"),
        (2**52 + WHOLE, "integer", r"'a' must hold whole numbers below 2\*\*52"),
        (NUMBERS, "real", "`columns` must give column 'a' one of .*'real'"),
        (-NUMBERS, Continuous("log"), "'a' must lie above `low`.*low=0"),
        (WHOLE, Integer(high=3), "'a' must lie within its bounds"),
        (["x", "y"] * 10, Categorical(("x", "z")), "'a' must hold its categories.*'y'"),
        (["x", "y"] * 10, Categorical((1, 2)), "`categories` must be values of type"),
    ],
)
def test_kinds_that_do_not_fit_are_named(values, kind, message):
    with pytest.raises(ValueError, match=message):
        Schema.infer({"a": values}, {"a": kind})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Continuous("root"), "`transform` must be one of"),
        (lambda: Integer(tfb.FillScaleTriL()), "`transform` must be one of"),
        (lambda: Continuous("standard", low=0.0), "`low` must be None unless"),
        (lambda: Continuous(knots=1), "`knots` must be an integer"),
        (lambda: Categorical(("x",)), "`categories` must be at least 2 different"),
        (lambda: Categorical(("x", "x")), "`categories` must be at least 2 different"),
    ],
)
def test_wrong_arguments_of_columns_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tables_that_do_not_fit_are_named(table):
    schema = Schema.infer(table)
    with pytest.raises(ValueError, match=r"without \['born'\] and with \[\]"):
        schema.encode(table.drop_columns("born"))
    with pytest.raises(ValueError, match=r"and with \['extra'\]"):
        schema.encode(table.append_column("extra", table["born"]))
    unknown = ["elsewhere"] * table.num_rows
    place = table.column_names.index("region")
    with pytest.raises(ValueError, match="'region' must hold its cat.*'elsewhere' in"):
        schema.encode(table.set_column(place, "region", pa.array(unknown)))
    with pytest.raises(ValueError, match="'visits' must hold values of type int16"):
        schema.encode(table.set_column(2, "visits", pa.array(unknown)))
    with pytest.raises(ValueError, match="`columns` must name columns of the table"):
        Schema.infer(table, {"weight": "continuous"})
    with pytest.raises(TypeError, match="`table` must be a `pyarrow.Table`"):
        Schema.infer([1, 2, 3])
    with pytest.raises(ValueError, match="columns of one length"):
        Schema.infer({"a": [1, 2], "b": [1]})
    twice = pa.table([pa.array(WHOLE)] * 2, names=["a", "a"])
    with pytest.raises(ValueError, match="different names. Received: 'a' more"):
        Schema.infer(twice)
