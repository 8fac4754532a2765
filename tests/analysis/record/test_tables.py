"""What was recorded comes back whole: compared with the ledger, which was written first."""

import math
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis.record import histories, store
from analysis.record.store import AnalysisError
from analysis.record.sweeps import find, sweeps
from analysis.record.tables import load
from analysis.record.trials import table_of
from searchers.record.ledger import Ledger
from searchers.record.schema import SWEEP_TAG, TRIAL_TAG
from tests.fixtures.recorded import IDENTITY, METRIC, Imagined, record


@pytest.fixture(scope="session")
def ledger(folder, tracking_uri):
    return Ledger(folder / "0" / "one" / "ledger.jsonl").trials()


def test_trials_are_those_of_the_ledger(client, ledger):
    trials = load(client, "one").trials
    assert list(trials["trial"]) == list(ledger)
    assert list(trials["number"]) == [record.number for record in ledger.values()]
    assert list(trials["status"]) == [record.status for record in ledger.values()]
    assert list(trials["epoch"]) == [record.epoch for record in ledger.values()]
    np.testing.assert_array_equal(trials["params.beta"], [r.config["beta"] for r in ledger.values()])
    np.testing.assert_array_equal(trials[f"metrics.{METRIC}"], [r.last(METRIC) for r in ledger.values()])
    assert (trials["end"] > trials["start"]).all()


def test_histories_are_those_of_the_ledger(client, ledger):
    history = load(client, "one").history
    found = {(row.number, row.metric, row.epoch): row.value for row in history.itertuples()}
    expected = {
        (record.number, key, epoch): value
        for record in ledger.values()
        for epoch, metrics in record.metrics.items()
        for key, value in metrics.items()
    }
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        assert found[place] == value or (math.isnan(found[place]) and math.isnan(value))


def test_a_search_that_needs_several_pages_finds_the_same(client, monkeypatch):
    whole, known = load(client, "three"), [sweep.run_id for sweep in sweeps(client)]
    assert len(known) > 3
    monkeypatch.setattr(store, "PAGE", 3)
    monkeypatch.setattr(histories, "RUNS_A_QUERY", 7)
    paged = load(client, "three", cache=None)
    assert [sweep.run_id for sweep in sweeps(client)] == known
    assert paged.trials.equals(whole.trials)
    assert paged.history.equals(whole.history)


def test_a_metric_at_a_time_gives_the_same_histories(client, monkeypatch, tmp_path):
    fast = load(client, "one", cache=tmp_path / "a")
    parts = histories._one_by_one
    monkeypatch.setattr(histories, "_from_database", lambda store, ids: parts(client, _runs(client)))
    slow = load(client, "one", cache=tmp_path / "b")
    assert slow.history.equals(fast.history)


def _runs(client):
    sweep = find(client, "one")
    mine = f"tags.`{SWEEP_TAG}` = '{sweep.sweep_id}' AND tags.`{TRIAL_TAG}` IS NOT NULL"
    return list(client.search_runs([sweep.experiment_id], mine))


def test_the_cache_is_read_again_only_where_a_trial_has_grown(folder, client, monkeypatch, tmp_path):
    fetched = []

    original = histories.fetch_histories

    def counted(client, chosen):
        fetched.append([run.info.run_name for run in chosen])
        return original(client, chosen)

    monkeypatch.setattr(histories, "fetch_histories", counted)
    record(Imagined("growing", trials=3, images=False, seed=9), folder / "growing", client.tracking_uri)
    before = load(client, "growing")
    assert [len(names) for names in fetched] == [3]
    assert load(client, "growing").history.equals(before.history)
    assert len(fetched) == 1
    run_id = before.trials["run_id"][1]
    client.log_metric(run_id, METRIC, math.inf, step=10)
    after = load(client, "growing")
    assert fetched[1:] == [[before.trials["name"][1]]]
    assert len(after.history) == len(before.history) + 1
    assert math.isinf(after.objective[1]) and math.isinf(after.curves(METRIC).loc[10, 2])
    (file,) = (tmp_path / "cache" / "latentune" / "analysis").iterdir()
    file.write_bytes(b"no Parquet")
    assert load(client, "growing").history.equals(after.history)


def test_without_a_cache_that_can_be_written_the_record_is_read_each_time(client, tmp_path):
    (tmp_path / "a file").write_text("")
    for _ in range(2):
        found = load(client, "three", cache=tmp_path / "a file" / "folder")
        assert found.history.equals(load(client, "three", cache=tmp_path / "cache").history)


def test_an_extractor_comes_with_its_weights_whoever_names_it(client):
    sweep, trials = find(client, "one"), load(client, "one").trials
    assert set(trials["params.features"]) == {IDENTITY}
    runs_of_it = _runs(client)
    for run in runs_of_it:
        run.data.params["features"] = "efficientnet_lite0"
    assert set(table_of(runs_of_it, sweep)["params.features"]) == {IDENTITY}


def test_an_empty_sweep_has_empty_tables(client):
    tables = load(client, "empty")
    assert len(tables.trials) == len(tables.history) == 0
    with pytest.raises(AnalysisError, match="'empty' has no trial"):
        tables.scored()


def test_a_running_sweep_is_said_to_run(client):
    tables = load(client, "going-on")
    assert tables.sweep.state == "running" and tables.sweep.ended is None
    assert list(tables.trials["status"]) == ["finished", "finished", "running"]


def test_an_unknown_parameter_names_the_known_ones(client):
    with pytest.raises(AnalysisError, match=r"no 'gamma'; they have: \['beta'"):
        load(client, "one").param("gamma")


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_trial_that_broke_in_its_last_epoch_is_not_complete(client, status):
    """Its latest score by another metric than the Fréchet distance is an earlier epoch's."""
    tables = load(client, "one")
    best = tables.best_first()["number"].iloc[0]
    ended = tables.trials["status"].mask(tables.trials["number"] == best, status)
    broken = replace(tables, trials=tables.trials.assign(status=ended))
    assert not broken.complete[broken.trials["number"] == best].any()
    assert broken.complete.sum() == tables.complete.sum() - 1
    assert broken.best_first()["number"].iloc[0] != best


def test_a_setting_is_the_space_and_what_given_points_changed(folder, client):
    """Paths, seeds and what follows from a setting are none."""
    points = tuple({"beta": 5.0, "width": width, "seed": seed} for width in (0.25, 0.5) for seed in (0, 1))
    points = tuple(point | {"data_root": f"/disk{n}"} for n, point in enumerate(points))
    imagined = Imagined("pointed", trials=4, images=False, stopping=False, points=points)
    record(imagined, folder / "pointed", client.tracking_uri)
    tables = load(client, "pointed")
    assert "params.beta_norm" in tables.trials
    assert tables.settings == tables.columns == ["beta", "width"]
    keys = [tables.key_of(row) for _, row in tables.trials.iterrows()]
    assert keys == [("5.0", "0.25")] * 2 + [("5.0", "0.5")] * 2
    same = replace(imagined, name="pointed-alike", points=tuple(point | {"width": 0.5} for point in points))
    record(same, folder / "pointed", client.tracking_uri)
    assert load(client, "pointed-alike").settings == ["beta", "width"]  # all differ from the sweep
    assert load(client, "one").settings == ["beta"]


@pytest.mark.slow
def test_a_server_gives_the_same_tables(client, server, monkeypatch):
    direct = load(client, "three")
    monkeypatch.setattr(histories, "POINTS_A_REQUEST", 40)  # answers are cut off, and asked in halves
    over_http = load(MlflowClient(server), "three")
    assert over_http.trials.equals(direct.trials)
    assert over_http.history.equals(direct.history)
