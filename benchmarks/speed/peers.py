"""Which libraries there are, and which of them are installed."""

import dataclasses
import subprocess


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library, or one way to use it.

    Attributes:
        name: The file in `adapters`.
        module: What must be importable.
        label: Its name in tables.
        ours: Whether it is this package or its floor.
    """

    name: str
    module: str
    label: str
    ours: bool = False


PEERS = (
    Peer("tfp_flows", "tfp_flows", "tfp_flows", ours=True),
    Peer("tfp_flows_jit", "tfp_flows", "tfp_flows, XLA", ours=True),
    Peer(
        "tfp_flows_one_thread",
        "tfp_flows",
        "tfp_flows, one thread an operation",
        ours=True,
    ),
    Peer("tfp_flows_reversible", "tfp_flows", "tfp_flows, reversible", ours=True),
    Peer("floor", "tfp_flows", "networks alone", ours=True),
    Peer("floor_jit", "tfp_flows", "networks alone, XLA", ours=True),
    Peer("tfp", "tf_keras", "TFP"),
    Peer("tfp_jit", "tf_keras", "TFP, XLA"),
    Peer("nflows", "nflows", "nflows"),
    Peer("normflows", "normflows", "normflows"),
    Peer("zuko", "zuko", "zuko"),
    Peer("frei_a", "FrEIA", "FrEIA"),
    Peer("flowjax", "flowjax", "FlowJAX"),
    Peer("distrax", "distrax", "distrax"),
)


def installed(pythons: list[str]) -> dict[str, str]:
    """Finds which interpreter has which library, without importing any.

    Args:
        pythons: Interpreters to ask, in order of preference.

    Returns:
        An interpreter for each peer that was found.
    """
    found: dict[str, str] = {}
    for python in pythons:
        modules = sorted({peer.module for peer in PEERS})
        code = (
            "import importlib.util as u, sys;"
            "print(*[m for m in sys.argv[1:] if u.find_spec(m)])"
        )
        printed = subprocess.run(
            [python, "-c", code, *modules], capture_output=True, text=True, check=True
        ).stdout.split()
        for peer in PEERS:
            if peer.module in printed:
                found.setdefault(peer.name, python)
    return found
