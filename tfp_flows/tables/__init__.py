"""Density estimation on tables with columns of numbers, counts and categories.

    table = tfpf.data.read_table("patients.parquet")    # or .csv, or a data frame
    model = tfpf.tables.fit(table)                       # infers kinds, trains a flow
    model.log_prob(table)                               # nats, in the columns' units
    tfpf.data.write_table(model.sample(1000), "made.parquet")    # the same columns
    model.save("patients.keras")                        # keras.models.load_model

| kind | coordinates of the flow | `log_prob` |
|---|---|---|
| `Continuous` | the value, through a quantile, standard or log transform | exact |
| `Integer` | the value and uniform noise; `floor` on sampling | lower bound |
| `Categorical` | one a category, the greatest says which (argmax flow) | lower bound |

`columns={"dose": tfpf.tables.Continuous("log"), "ward": "categorical"}` says otherwise
than what is inferred. Missing values are refused, unless incomplete rows are left out
(`complete_rows`) or missing is a category of its own (`Categorical(missing=True)`).
"""

from tfp_flows.bijectors.elementwise import Quantile
from tfp_flows.distributions.tables import (
    ArgmaxDequantizer,
    IntegerDequantizer,
    RealDequantizer,
    TableDistribution,
)
from tfp_flows.tables.arrow import complete_rows
from tfp_flows.tables.columns import Categorical, Continuous, Integer
from tfp_flows.tables.fitting import fit
from tfp_flows.tables.model import TableFlow
from tfp_flows.tables.pictures import marginals_figure, pairs_figure
from tfp_flows.tables.schema import Schema
