import os

import pytest
from ray import tune

from searchers.bayesopt import BayesOptSearch

REPORT = [(1.0, 139.33), (50.0, 147.92), (100.0, 137.98), (150.0, 151.08)]  # β and FID, the report's tables


def searcher(**settings):
    settings = {"points_to_evaluate": [{"beta": b} for b, _ in REPORT], **settings}
    return BayesOptSearch({"beta": tune.uniform(1, 150)}, "fid", "min", **settings)


def after_the_report(**settings):
    search = searcher(**settings)
    for i, (beta, fid) in enumerate(REPORT):
        assert search.suggest(str(i)) == {"beta": beta}
        search.on_trial_complete(str(i), {"fid": fid, "training_iteration": 10})
    return search


def test_report_kernel_proposes_what_the_report_says():
    assert 75 <= after_the_report(surrogate="report").suggest("next")["beta"] <= 80


def test_maximising_the_negated_metric_is_the_same_search():
    search = BayesOptSearch({"beta": tune.uniform(1, 150)}, "score", "max", surrogate="report")
    for i, (beta, fid) in enumerate(REPORT):
        search.add_evaluated_point({"beta": beta}, -fid)
        assert search.history.trials[f"known-{i}"].rows == {0: [-fid]}
    search.suggested = 4
    assert search.suggest("next")["beta"] == pytest.approx(
        after_the_report(surrogate="report").suggest("next")["beta"], abs=1e-6
    )


def fid_of(config):
    return 125 + (config["beta"] - 75) ** 2 / 300


def trainable(config):
    for epoch in range(1, 5):
        tune.report({"fid": fid_of(config) + 8 / epoch, "epoch": epoch})


@pytest.fixture(scope="module")
def embedded_ray():
    import ray

    previous = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    os.environ.pop("RAY_AUTH_MODE")
    if previous is not None:
        os.environ["RAY_AUTH_MODE"] = previous


def test_sweep_in_tune_under_asha_and_its_searcher_restored(embedded_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    space = {"beta": tune.uniform(1, 150), "constant": 3, "nested": {"units": tune.randint(1, 5)}}

    search = BayesOptSearch(points_to_evaluate=[{"beta": 20.0}], seed=3)
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="fid",
            mode="min",
            search_alg=search,
            num_samples=12,
            max_concurrent_trials=2,
            scheduler=tune.schedulers.ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2),
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(name="sweep", storage_path=str(tmp_path), verbose=0),
    )
    grid = tuner.fit()
    assert len(grid) == 12 and not grid.errors
    assert grid[0].config["beta"] == 20.0
    assert all(r.config["constant"] == 3 and type(r.config["nested"]["units"]) is int for r in grid)
    assert len(search.observations()) == 12
    epochs = {o.epoch for o in search.observations()}
    assert 4 in epochs
    states = {o.state for o in search.observations()}
    assert "finished" in states and "running" not in states
    again = BayesOptSearch(space)
    again.restore_from_dir(str(tmp_path / "sweep"))
    assert again.get_state()["history"] == search.get_state()["history"]
    assert again.suggest("next") == {"constant": 3, **search.suggest("next")}
