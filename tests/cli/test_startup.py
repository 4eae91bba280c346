"""What importing the package and starting the command load and print."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
    "PYTHONPATH": os.pathsep.join(sys.path),
}
COMMAND = "import sys; sys.argv[0] = 'tfp-flows'; from tfp_flows.cli import main; "


def python(code, *arguments, fails=False):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert fails or done.returncode == 0, done.stderr
    return done


def test_an_import_loads_no_other_package_and_is_enough_for_a_model(run):
    done = python(
        """
import json, sys
import keras, tensorflow_probability as tfp
tfp.distributions.Normal, tfp.bijectors.Chain, tfp.math.ode
before = {name.partition(".")[0] for name in sys.modules}
import tfp_flows
loaded = {name.partition(".")[0] for name in sys.modules} - before
print(json.dumps(sorted(loaded - set(sys.stdlib_module_names))))
keras.models.load_model(sys.argv[1])
""",
        str(run / "flow.keras"),
    )
    assert json.loads(done.stdout) == ["tfp_flows"]


@pytest.mark.parametrize(
    "before",
    [
        "tensorflow_probability",
        pytest.param("keras", marks=pytest.mark.slow),
        pytest.param("tensorflow", marks=pytest.mark.slow),
    ],
)
def test_it_can_be_imported_after_what_has_not_been_used(before):
    done = python(f"import {before}; import tfp_flows; print(tfp_flows.glow.__name__)")
    assert done.stdout.split() == ["glow"]


HEAVY = ("tensorflow", "keras", "numpy", "scipy", "matplotlib", "pyarrow")


@pytest.mark.parametrize(
    "arguments",
    [(), ("train", "--help"), ("posterior", "--help"), ("serve", "--nothing")],
    ids=" ".join,
)
def test_help_and_wrong_options_need_no_tensorflow(arguments):
    done = python(
        f"""
{COMMAND}
try:
    main()
finally:
    print(sorted(set({HEAVY}) & set(sys.modules)))
""",
        *arguments,
        fails=True,
    )
    assert done.returncode == (2 if "--nothing" in arguments else 0)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command",
    [["-m", "tfp_flows"], [Path(sysconfig.get_path("scripts")) / "tfp-flows"]],
    ids=["module", "installed"],
)
def test_the_command_answers_at_once(command):
    if command[0] != "-m" and not command[0].exists():
        pytest.skip("the package is not installed")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "--help"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "evaluate" in done.stdout
    assert "tfp_flows.cli" in done.stderr
    assert "tensorflow" not in done.stderr


def test_a_verb_loads_the_package_without_chatter(run):
    """Nothing of TensorFlow's own is printed, and files of flows are read."""
    done = python(
        f"""
{COMMAND}
try:
    main()
finally:
    import tfp_flows as tfpf
    print(tfpf.FlowModel.__name__, hasattr(tfpf, "no_such_name"))
""",
        *("evaluate", str(run), "--data", str(run)),
        fails=True,
    )
    assert done.returncode == 2
    assert done.stdout == "FlowModel False\n"
    assert done.stderr.startswith("tfp-flows: Argument `path` must be an existing file")
    assert done.stderr.count("\n") == 1
