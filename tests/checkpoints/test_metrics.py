"""What metrics.json states is read as it was written, and nothing else is read."""

import json
import shutil
from dataclasses import replace

import pytest

from zoo.checkpoints import catalog
from zoo.checkpoints.metrics import Metric, Quick, entries, metrics_of, read_metrics, write_metrics
from zoo.errors import ZooError

NLL = Metric(
    name="nll",
    value=84.25,
    unit="nats/image",
    kind="estimate",
    standard_error=0.5,
    monte_carlo_error=0.01,
    count=10_000,
    importance_samples=5000,
    dataset="MNIST",
    split="test",
)
ROUGH = replace(NLL, value=84.5, standard_error=0.75, count=1000, importance_samples=200)


@pytest.mark.parametrize("name", catalog.list_models())
def test_shipped_metrics_are_written_as_they_were_read(name, tmp_path):
    folder = catalog.CARDS / name
    shutil.copy(folder / "model.safetensors", tmp_path)
    write_metrics(tmp_path, read_metrics(folder))
    assert (tmp_path / "metrics.json").read_bytes() == (folder / "metrics.json").read_bytes()


def test_what_a_metric_does_not_have_is_not_written(tmp_path):
    plain = replace(NLL, monte_carlo_error=None, importance_samples=None, standard_error=None)
    (entry,) = entries([plain])
    assert entry == {
        "name": "nll",
        "value": 84.25,
        "unit": "nats/image",
        "kind": "estimate",
        "standard_error": None,  # of a single datum: that is stated
        "count": 10_000,
        "seed": 0,
        "dataset": "MNIST",
        "split": "test",
    }
    assert metrics_of({"metrics": [entry]}, tmp_path) == [plain]
    whole = NLL.with_quick(ROUGH)
    whole = replace(whole, job="gap", quick=replace(whole.quick, seeds={"0": 84.5}), seeds={"0": 1})
    assert metrics_of(json.loads(json.dumps({"metrics": entries([whole])})), tmp_path) == [whole]


@pytest.mark.parametrize("key", [*entries([NLL.with_quick(ROUGH)])[0]])
def test_a_key_is_of_its_kind_and_there_unless_it_may_be_absent(key, tmp_path):
    (entry,) = entries([NLL.with_quick(ROUGH)])
    with pytest.raises(ZooError, match=rf"metric 0: '{key}' must be .*, not \[\]"):
        metrics_of({"metrics": [{**entry, key: []}]}, tmp_path)
    del entry[key]
    if key in ("monte_carlo_error", "importance_samples", "quick"):
        (metric,) = metrics_of({"metrics": [entry]}, tmp_path)
        assert getattr(metric, key) is None
    else:
        with pytest.raises(ZooError, match=f"metric 0 has no '{key}'"):
            metrics_of({"metrics": [entry]}, tmp_path)


def test_a_quick_value_is_checked_likewise(tmp_path):
    (entry,) = entries([NLL.with_quick(ROUGH)])
    with pytest.raises(ZooError, match="quick of metric 0: 'count' must be a whole number above 0"):
        metrics_of({"metrics": [{**entry, "quick": {**entry["quick"], "count": 0}}]}, tmp_path)
    with pytest.raises(ZooError, match="quick of metric 0 has no 'value'"):
        metrics_of({"metrics": [{**entry, "quick": {}}]}, tmp_path)


def test_the_quick_value_takes_the_place_of_the_other():
    metric = NLL.with_quick(ROUGH)
    assert metric.quick == Quick(
        value=84.5,
        standard_error=0.75,
        monte_carlo_error=0.01,
        count=1000,
        importance_samples=200,
    )
    assert metric.at_quick() == ROUGH


def test_a_metric_in_words():
    assert NLL.words == "84.25 ± 0.5 nats/image, estimate"
    assert replace(NLL, standard_error=None).words == "84.25 nats/image, estimate"
    assert NLL.measured_on == "MNIST test, 10,000 examples, seed 0"
