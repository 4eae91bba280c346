"""The command line that both clients have."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def run_command(
    connect: Callable[..., Any], default_address: str, words: list[str] | None = None
) -> int:
    """Parses a command line, makes one call and prints or stores its outputs.

    Args:
        connect: Makes a client from an address, a model and a timeout.
        default_address: Where to connect unless `--address` says otherwise.
        words: The words of the command line; None for those of this process.

    Returns:
        The exit status: 0, or 1 with a message on standard error.
    """
    options = _parser(default_address).parse_args(words)
    try:
        inputs = _inputs(options)
        with connect(options.address, options.model, options.timeout) as client:
            outputs = client.predict(options.signature, inputs)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.out:
        first = next(name for name in outputs if name != "is_finite")
        np.save(options.out, outputs.get("samples", outputs[first]))
        return 0
    printable = {name: np.asarray(value).tolist() for name, value in outputs.items()}
    print(json.dumps(printable))
    return 0


def _parser(default_address: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default=default_address)
    parser.add_argument("--model", required=True, help="name of the served model")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds")
    parser.add_argument("--out", type=Path, help="store the main output as .npy")
    commands = parser.add_subparsers(dest="signature", required=True)
    for name in ("log_prob", "log_prob_uint8", "encode", "decode", "anomaly_score"):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path, help="rows, as .npy")
        command.add_argument("--condition", type=Path, help="conditions, as .npy")
    sample = commands.add_parser("sample")
    sample.add_argument("--n", type=int, default=1)
    sample.add_argument("--seed", type=int, nargs=2, default=(0, 0))
    sample.add_argument("--temperature", type=float, default=1.0)
    sample.add_argument("--condition", type=Path, help="one condition, as .npy")
    return parser


def _inputs(options: argparse.Namespace) -> dict[str, Any]:
    if options.signature == "sample":
        names = ("n", "seed", "temperature")
        inputs = {name: getattr(options, name) for name in names}
    else:
        names = {"decode": "latent", "log_prob_uint8": "image"}
        name = names.get(options.signature, "x")
        inputs = {name: np.load(options.data)}
    if options.condition:
        inputs["condition"] = np.load(options.condition)
    return inputs
