"""Configuration files that TF Serving's own messages can read."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from tfp_flows.serving import ModelEntry, write_batching_config, write_models_config

protos = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
EXPORT = Path(__file__).parents[2] / "export"


def read(path):
    return text_format.Parse(path.read_text(), protos.ModelServerConfig())


def test_models_policies_and_labels(tmp_path):
    path = tmp_path / "models.config"
    labels = {"stable": 3, "canary": 4}
    models = [
        ModelEntry("flow", "/models/flow"),
        ModelEntry("pair", "/models/pair", None, [3, 4], labels),
        ModelEntry("every", "/models/every", None, "all"),
    ]
    write_models_config(path, models)
    flow, pair, every = read(path).model_config_list.config
    assert flow.name == "flow"
    assert flow.base_path == "/models/flow"
    assert flow.model_platform == "tensorflow"
    assert flow.model_version_policy.latest.num_versions == 1
    assert list(pair.model_version_policy.specific.versions) == [3, 4]
    assert dict(pair.version_labels) == labels
    assert every.model_version_policy.HasField("all")
    assert [file.name for file in tmp_path.iterdir()] == ["models.config"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([ModelEntry("a", "/a"), ModelEntry("a", "/b")], "must not repeat a name"),
        ([ModelEntry("a", "/a", 1, [2])], "one of `latest` and `versions`"),
        ([ModelEntry("a", "/a", 0)], "`latest` must be"),
        ([ModelEntry("a", "/a", None, "some")], "`versions` must be"),
        ([ModelEntry("a", "/a", None, [3], {"x": 4})], "`labels` must name"),
    ],
)
def test_wrong_models_are_refused(tmp_path, models, message):
    with pytest.raises(ValueError, match=message):
        write_models_config(tmp_path / "models.config", models)
    assert list(tmp_path.iterdir()) == []


def test_batching_parameters(tmp_path):
    path = tmp_path / "batching.config"
    write_batching_config(path, max_batch_size=8, allowed_batch_sizes=[2, 8])
    assert path.read_text().splitlines() == [
        "max_batch_size { value: 8 }",
        "batch_timeout_micros { value: 2000 }",
        "max_enqueued_batches { value: 256 }",
        "num_batch_threads { value: 4 }",
        "allowed_batch_sizes: 2",
        "allowed_batch_sizes: 8",
    ]
    with pytest.raises(ValueError, match="`allowed_batch_sizes` must rise"):
        write_batching_config(path, allowed_batch_sizes=[4, 2])
    with pytest.raises(ValueError, match="`num_batch_threads` must be"):
        write_batching_config(path, num_batch_threads=0)


def test_the_configuration_in_the_repository_is_readable():
    (model,) = read(EXPORT / "models.config").model_config_list.config
    assert (model.name, model.base_path) == ("flow", "/models/flow")
