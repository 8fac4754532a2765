"""Results of an earlier sweep, read from its ledger or from MLflow, as the next one's start."""

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pandas as pd
import pytest
from ray import tune

from searchers.bayesopt import BayesOptSearch
from searchers.history import FAILED
from searchers.ledger import DIVERGED, FINISHED, STOPPED, Ledger
from searchers.ledger import FAILED as BROKEN
from searchers.space import Choice, Integer, Real, Space
from searchers.sweep import SweepConfig, UsageError, _known
from searchers.warm_start import from_mlflow, from_sweep

SETTINGS = SweepConfig(dataset="faces", epochs=2, features="inception")


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"sweep_id": "id", "config": asdict(SETTINGS)}))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ends = {
        "a": (FINISHED, [9.0, 5.0]),
        "b": (STOPPED, [12.0]),
        "c": (DIVERGED, []),
        "d": (BROKEN, [7.0]),
        "e": (None, [1.0]),
    }
    for number, (trial, (status, values)) in enumerate(ends.items()):
        ledger.append("trial", trial=trial, number=number, config={"beta": 10.0 * number + 1, "fixed": 3})
        for epoch, value in enumerate(values, start=1):
            ledger.append("result", trial=trial, epoch=epoch, metrics={"fid": value, "kl": 1.0}, images={})
        if status:
            ledger.append("end", trial=trial, status=status)
    ledger.close()
    return tmp_path


def test_what_a_sweep_found(sweep):
    known = from_sweep(sweep, "fid", SETTINGS)
    assert [config["beta"] for config, _ in known] == [1.0, 11.0, 21.0]
    assert known[0][1] == 5.0 and known[1][1] == [12.0] and math.isnan(known[2][1])
    search = BayesOptSearch({"beta": tune.uniform(1, 150)}, "fid", "min", warm_start=known)
    assert [(o.config["beta"], o.value) for o in search.observations()][:2] == [(1.0, 5.0), (11.0, 12.0)]
    assert [t.state for t in search.history.trials.values()][2] == FAILED


def test_a_metric_nobody_reported_and_a_folder_without_a_sweep(sweep):
    with pytest.raises(ValueError, match=r"'kid'.*\['fid', 'kl'\]"):
        from_sweep(sweep, "kid", SETTINGS)
    with pytest.raises(FileNotFoundError, match="no ledger"):
        from_sweep(sweep / "nothing", "fid", SETTINGS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "celeba"}, "--dataset faces, this sweep is with --dataset celeba"),
        ({"dataset_limit": 99}, "--dataset-limit None, this sweep is with --dataset-limit 99"),
        ({"image_size": 32}, "--image-size 64, this sweep is with --image-size 32"),
        ({"evaluation_samples": 500}, "--evaluation-samples 1000, this"),
        ({"epochs": 9, "features": "auto"}, "--epochs 2 --features inception, this sweep is with --epochs 9"),
    ],
)
def test_scores_of_other_data_or_of_another_budget_are_refused(sweep, changes, said):
    begun_with = replace(SETTINGS, warm_start=sweep.name, results=str(sweep.parent))
    study = SimpleNamespace(metric="fid", objectives={})
    with pytest.raises(UsageError, match=f"^--warm-start: .*{said}"):
        _known(study, replace(begun_with, **changes))
    assert len(_known(study, replace(begun_with, seed=3))) == 3


def test_runs_of_mlflow_get_their_types_back():
    space = Space([Real("rate", 0, 1), Integer("nested/units", 1, 9), Choice("kind", ("a", None, 3))])
    runs = pd.DataFrame(
        {
            "metrics.fid": [1.5, 2.5, math.nan, 3.5, 4.5],
            "params.rate": ["0.25", "0.5", "0.5", "7.0", None],
            "params.nested/units": ["4", "5", "5", "5", "5"],
            "params.kind": ["None", "3", "a", "a", "a"],
        }
    )
    known = from_mlflow(runs, "fid", space)
    assert known == [
        ({"rate": 0.25, "nested/units": 4, "kind": None}, 1.5),
        ({"rate": 0.5, "nested/units": 5, "kind": 3}, 2.5),
    ]
    search = BayesOptSearch(space, "fid", "min", warm_start=known)
    assert search.observations()[1].config == {"rate": 0.5, "nested": {"units": 5}, "kind": 3}
    with pytest.raises(ValueError, match="'kid'"):
        from_mlflow(runs, "kid", space)
