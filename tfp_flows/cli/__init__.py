"""The command line: `tfp-flows train | evaluate | sample | export | serve | check`."""

from tfp_flows.cli.app import app, main

__all__ = ["app", "main"]
