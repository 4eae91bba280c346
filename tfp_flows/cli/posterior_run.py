"""What `tfp-flows posterior` reads, trains, judges and writes."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_probability as tfp
from rich.table import Table

from tfp_flows import inference, plotting
from tfp_flows.cli import files
from tfp_flows.data.files import FileData, read_file

tfb, tfd = tfp.bijectors, tfp.distributions

MODEL_FILE, REPORT_FILE = "posterior.keras", "report.json"
LEAST_PAIRS, MOST_HELD_OUT, MOST_PICTURES = 100, 1_000, 10
LEVELS = (0.5, 0.8, 0.9, 0.95)
# Parameters side by side in one picture of calibration.
ABREAST = 6
UNLIKELY = 0.01

Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Simulations: parameters `[n, d]` and data `[n, k]`, with their columns."""

    theta: np.ndarray
    x: np.ndarray
    names: tuple[str, ...]
    columns: tuple[str, ...]

    def rows(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns some of the pairs."""
        return self.theta[chosen], self.x[chosen]


def check_folder(path: Path) -> None:
    """Refuses a folder that holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(
            f"Option `--out` must be a new or empty folder. Received: {path}, which "
            "holds other files"
        )


def read_pairs(theta: Path | None, x: Path | None) -> Pairs:
    """Reads simulations, and refuses what does not fit together."""
    for name, path in (("--theta", theta), ("--x", x)):
        if path is None:
            raise ValueError(f"Option `{name}` must be given. Received: none")
    # Data are conditions, which need no density: a column of them may be constant.
    first, second = _table("--theta", theta), _table("--x", x, for_training=False)
    n = len(first.x)
    if n != len(second.x) or n < LEAST_PAIRS:
        raise ValueError(
            f"Options `--theta` and `--x` must have equally many rows, at least "
            f"{LEAST_PAIRS}. Received: {n} and {len(second.x)}"
        )
    names = first.columns or ()
    if _unnamed(first):
        names = tuple(f"theta{k}" for k in range(len(names)))
    return Pairs(first.x, second.x, names, second.columns or ())


def _table(option: str, path: Path | None, for_training: bool = True) -> FileData:
    data = read_file(path or "", for_training=for_training)
    if data.columns is None:
        raise ValueError(
            f"Option `{option}` must name a table. Received: {path} of shape "
            f"{data.x.shape}"
        )
    return data


def _unnamed(data: FileData) -> bool:
    return data.columns == tuple(f"x{k}" for k in range(data.x.shape[1]))


@dataclasses.dataclass
class Fitted:
    """A posterior with what its files have to say of it.

    `low` and `high` bound the parameters; `shift` and `scale` standardize them in the
    unbounded form. `span` holds the least and the largest of the simulated data.
    """

    names: list[str]
    columns: list[str]
    low: list[float]
    high: list[float]
    shift: list[float]
    scale: list[float]
    span: list[list[float]]
    members: int
    diagnostics: Report = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        prior = tfd.TransformedDistribution(
            tfd.Sample(tfd.Normal(0.0, 1.0), [len(self.names)]),
            tfb.Blockwise(
                [
                    tfb.Chain([*_bounds(low, high), tfb.Shift(shift), tfb.Scale(scale)])
                    for low, high, shift, scale in zip(
                        self.low, self.high, self.shift, self.scale, strict=True
                    )
                ]
            ),
        )
        self.estimator = inference.NeuralPosterior(prior, members=self.members)
        self.calibration: inference.Calibration | None = None
        self.simulated: np.ndarray | None = None

    def observed(self, path: Path) -> np.ndarray:
        """Reads observations `[n, k]` in the order of the simulated columns."""
        data = _table("--observed", path, for_training=False)
        found = list(data.columns or ())
        if found == self.columns or (
            _unnamed(data) and len(found) == len(self.columns)
        ):
            return data.x
        if sorted(found) != sorted(self.columns):
            raise ValueError(
                f"Option `--observed` must have the columns of the simulated data, "
                f"{', '.join(self.columns)}. Received: {', '.join(found)}"
            )
        return data.x[:, [found.index(name) for name in self.columns]]

    def train(self, pairs: Pairs, *, epochs: int, seed: int, verbose: int) -> None:
        """Fits the posterior, and judges it on pairs that it has not seen."""
        order = np.random.default_rng(seed).permutation(len(pairs.theta))
        count = min(len(order) // 10, MOST_HELD_OUT)
        held_out, train = pairs.rows(order[:count]), pairs.rows(order[count:])
        start = time.monotonic()
        self.estimator.fit(*train, epochs=epochs, seed=seed, verbose=verbose)
        self.diagnostics["training_seconds"] = round(time.monotonic() - start, 2)
        self.diagnostics["pairs"] = {"train": len(order) - count, "held_out": count}
        self.simulated = train[0]
        self._judge(train, held_out, seed)

    def _judge(
        self,
        train: tuple[np.ndarray, np.ndarray],
        held_out: tuple[np.ndarray, np.ndarray],
        seed: int,
    ) -> None:
        theta, x = held_out
        density = np.asarray(self.estimator(x).log_prob(theta))
        calibration = inference.calibrate(
            self.estimator, theta, x, names=self.names, seed=seed
        )
        coverage = calibration.coverage(LEVELS)
        contraction = calibration.contraction().mean(axis=0)
        self.diagnostics["log_density"] = float(density.mean())
        self.diagnostics["log_density_of_regression"] = _regression(*train, theta, x)
        self.diagnostics["parameters"] = {
            name: {
                "coverage": dict(zip(map(str, LEVELS), coverage[:, k], strict=True)),
                "p_value": float(p),
                "contraction": float(contraction[k]),
            }
            for k, (name, p) in enumerate(
                zip(self.names, calibration.p_values(), strict=True)
            )
        }
        self.calibration = calibration

    def outside(self, x: np.ndarray) -> list[str]:
        """Names the columns in which an observation is beyond all simulations."""
        return [
            name
            for name, value, (low, high) in zip(self.columns, x, self.span, strict=True)
            if not low <= value <= high
        ]


def _bounds(low: float, high: float) -> list[tfb.Bijector]:
    """Returns the bijectors onto an interval; a uniform parameter becomes normal."""
    if np.isfinite(low) and np.isfinite(high):
        return [tfb.Shift(low), tfb.Scale(high - low), tfb.NormalCDF()]
    if np.isfinite(low):
        return [tfb.Shift(low), tfb.Exp()]
    if np.isfinite(high):
        return [tfb.Shift(high), tfb.Scale(-1.0), tfb.Exp()]
    return []


def new(pairs: Pairs, low: str | None, high: str | None, members: int) -> Fitted:
    """Prepares a posterior for simulations, and refuses bounds that they break."""
    lows = _numbers("--low", low, -np.inf, pairs.names)
    highs = _numbers("--high", high, np.inf, pairs.names)
    shifts, scales = [], []
    for name, a, b, values in zip(
        pairs.names, lows, highs, pairs.theta.T.astype(np.float64), strict=True
    ):
        if not (np.all(a < values) and np.all(values < b)):
            raise ValueError(
                f"Options `--low` and `--high` must lie outside of all parameters. "
                f"Received: {a:g} and {b:g} for '{name}', which goes from "
                f"{values.min():g} to {values.max():g}"
            )
        shift, scale = 0.0, 1.0
        if not (np.isfinite(a) and np.isfinite(b)):
            u = values
            if np.isfinite(a):
                u = np.log(values - a)
            elif np.isfinite(b):
                u = np.log(b - values)
            shift, scale = float(u.mean()), float(u.std())
        shifts.append(shift)
        scales.append(scale)
    span = np.stack([pairs.x.min(axis=0), pairs.x.max(axis=0)], axis=1).tolist()
    return Fitted(
        list(pairs.names),
        list(pairs.columns),
        lows,
        highs,
        shifts,
        scales,
        span,
        members,
    )


def _numbers(
    option: str, text: str | None, default: float, names: Sequence[str]
) -> list[float]:
    if text is None:
        return [default] * len(names)
    try:
        read = [float(part) for part in text.split(",")]
    except ValueError:
        read = []
    read = read * len(names) if len(read) == 1 else read
    if len(read) != len(names) or np.isnan(read).any():
        raise ValueError(
            f"Option `{option}` must be a number, or {len(names)} of them for "
            f"{', '.join(names)}. Received: {text}"
        )
    return read


def _regression(
    theta: np.ndarray, x: np.ndarray, held_out: np.ndarray, data: np.ndarray
) -> float:
    """Computes the mean log-density that a linear Gaussian regression gives, nats."""
    from scipy import stats

    design, tested = (np.column_stack([np.ones(len(v)), v]) for v in (x, data))
    slope = np.linalg.lstsq(design, theta, rcond=None)[0]
    spread = np.cov(theta - design @ slope, rowvar=False)
    normal = stats.multivariate_normal(cov=spread, allow_singular=True)
    return float(np.mean(normal.logpdf(held_out - tested @ slope)))


def load(path: Path) -> Fitted:
    """Reads what an earlier call has written."""
    if not all((path / name).is_file() for name in (MODEL_FILE, REPORT_FILE)):
        raise ValueError(
            f"Option `--model` must be the folder of an earlier call, with "
            f"{MODEL_FILE} and {REPORT_FILE} in it. Received: {path}"
        )
    report = json.loads((path / REPORT_FILE).read_text(encoding="utf-8"))
    fitted = Fitted(**_infinite(report["model"]), diagnostics=report["diagnostics"])
    fitted.estimator.load(path / MODEL_FILE)
    return fitted


def _infinite(model: Report) -> Report:
    """Puts the bounds back that strict JSON cannot hold."""
    for name, none in (("low", -np.inf), ("high", np.inf)):
        model[name] = [none if bound is None else bound for bound in model[name]]
    return model


def _described(fitted: Fitted) -> Report:
    model = dataclasses.asdict(fitted)
    model.pop("diagnostics")
    for name in ("low", "high"):
        model[name] = [b if np.isfinite(b) else None for b in model[name]]
    return model


def write(path: Path, fitted: Fitted, x: np.ndarray, draws: int, seed: int) -> Report:
    """Draws from the posteriors, and writes everything into a folder."""
    path.mkdir(parents=True, exist_ok=True)
    names = fitted.names if len(x) == 1 else ["observation", *fitted.names]
    summaries = []
    with files.rows(path / "draws.csv", None, (), names) as append:
        for k, row in enumerate(x, start=1):
            theta = fitted.estimator.sample(row, draws, seed=(seed, k)).numpy()
            numbered = np.column_stack([np.full(draws, k), theta])
            append(theta if len(x) == 1 else numbered)
            summaries.append(_summary(fitted, row, theta))
            if k <= MOST_PICTURES:
                name = "posterior.png" if len(x) == 1 else f"posterior_{k}.png"
                figure = inference.posterior_figure(
                    theta, fitted.simulated, names=fitted.names
                )
                plotting.save(figure, path / name)
    if fitted.calibration is not None:
        _draw_calibration(path, fitted.calibration)
    fitted.estimator.save(path / MODEL_FILE)
    report = {
        "model": _described(fitted),
        "diagnostics": fitted.diagnostics,
        "observations": summaries,
        "draws": draws,
        "seed": seed,
    }
    files.write_json(path / REPORT_FILE, report)
    return report


def _summary(fitted: Fitted, x: np.ndarray, theta: np.ndarray) -> Report:
    low, middle, high = np.quantile(theta.astype(np.float64), [0.05, 0.5, 0.95], axis=0)
    columns = {
        "mean": theta.mean(axis=0, dtype=np.float64),
        "deviation": theta.std(axis=0, dtype=np.float64),
        "quantile_5": low,
        "median": middle,
        "quantile_95": high,
    }
    parameters = {
        name: {column: float(values[k]) for column, values in columns.items()}
        for k, name in enumerate(fitted.names)
    }
    return {"outside_of_simulations": fitted.outside(x), "parameters": parameters}


def _draw_calibration(path: Path, calibration: inference.Calibration) -> None:
    d = len(calibration.names)
    for page, first in enumerate(range(0, d, ABREAST), start=1):
        columns = slice(first, first + ABREAST)
        part = inference.Calibration(
            calibration.ranks[:, columns], calibration.draws, calibration.names[columns]
        )
        name = "calibration.png" if page == 1 else f"calibration_{page}.png"
        plotting.save(inference.calibration_figure(part), path / name)


def table(fitted: Fitted, report: Report) -> Table:
    """Makes the table that ends a call: the first observation, and the judgement."""
    judged, pairs = fitted.diagnostics["parameters"], fitted.diagnostics["pairs"]
    count = len(report["observations"])
    title = f"{'The' if count == 1 else 'The first'} observation's posterior | its "
    title += f"judgement by {pairs['held_out']:,} held-out simulations"
    rows = Table(title=title, title_justify="left")
    rows.add_column("parameter")
    for column in ("mean", "sd", "5 %", "95 %", "90 % hold", "p", "contraction"):
        rows.add_column(column, justify="right", no_wrap=True)
    for name, drawn in report["observations"][0]["parameters"].items():
        quality = judged[name]
        shown = [drawn[k] for k in ("mean", "deviation", "quantile_5", "quantile_95")]
        rows.add_row(
            name,
            *(f"{value:.3g}" for value in shown),
            f"{100 * quality['coverage']['0.9']:.0f} %",
            f"{quality['p_value']:.2g}",
            f"{quality['contraction']:.2f}",
        )
    return rows


def remarks(report: Report) -> list[str]:
    """Says in sentences how good the posterior is, and what not to trust it for."""
    found, judged = [], report["diagnostics"]
    density, linear = judged["log_density"], judged["log_density_of_regression"]
    found.append(
        f"Held-out log-density of the parameters: {density:.3f} nats; of a linear "
        f"regression: {linear:.3f}."
    )
    if density < linear:
        found.append("Warning: the regression is better. Simulate more.")
    d = len(judged["parameters"])
    for name, values in judged["parameters"].items():
        if values["p_value"] < UNLIKELY / d:
            found.append(
                f"Warning: the ranks of '{name}' are uneven (p = "
                f"{values['p_value']:.1g}): its intervals are not calibrated. See "
                "calibration.png."
            )
    for k, seen in enumerate(report["observations"], start=1):
        if columns := seen["outside_of_simulations"]:
            found.append(
                f"Warning: observation {k} is outside of all simulations in "
                f"{', '.join(columns)}: its posterior is an extrapolation."
            )
    return found
