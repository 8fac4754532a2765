"""Results of an earlier sweep, from its folder or from MLflow, as the next one's start."""

import json
import math
from dataclasses import asdict, replace

import pytest
from mlflow import MlflowClient
from ray import tune

from searchers.bayesopt.history import FAILED
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.execution.resume import store
from searchers.execution.run import sweep_record
from searchers.execution.search import _earlier
from searchers.execution.warm_start import earlier_results
from searchers.flow import FlowConfig
from searchers.record.ledger import Ledger
from searchers.record.mlflow_exporter import MlflowExporter
from searchers.record.provenance import lasting_settings
from searchers.record.schema import DIVERGED, FINISHED, STOPPED
from searchers.record.schema import FAILED as BROKEN
from searchers.record.sweep_record import SweepRecord
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study
from searchers.tune import TuneConfig
from tests.fixtures.waits import PATIENCE
from trainables import BetaVAEGAN

SPACE = {
    "beta": tune.uniform(1, 150),
    "nested": {"units": tune.randint(1, 9)},
    "kind": tune.choice(["a", None, 3]),
}
TRIALS = {
    "a": (FINISHED, [9.0, 7.0, 5.0], "a"),
    "b": (STOPPED, [12.0, 11.0], None),
    "c": (DIVERGED, [math.nan], 3),
    "d": (BROKEN, [7.0], "a"),
    "e": (None, [1.0], "a"),
}
EPOCHS, EVALUATE_EVERY = 6, 2
PROVENANCE = {
    "features": "inception-weights-and-resize",
    "data_hash": "1",
}  # what MLflow is told in place of the flag
STUDY = Study(trainable=BetaVAEGAN, space=SPACE, metric="fid", provenance=PROVENANCE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of results with a sweep, and MLflow's database, to which its ledger has been delivered."""
    place = tmp_path_factory.mktemp("earlier")
    uri = f"sqlite:///{place}/mlflow.db"
    MlflowClient(uri).create_experiment("tests", artifact_location=str(place / "artefacts"))
    config = SweepConfig(
        name="earlier", epochs=EPOCHS, features="inception", results=str(place), tracking_uri=uri
    )
    folder = place / "earlier"
    folder.mkdir()
    (folder / "sweep.json").write_text(
        json.dumps(
            {
                "program": "x",
                "sweep_id": "id",
                "data_hash": "1",
                "config": asdict(config) | {"model": "mine:One", "kind": "flow"},
            }
        )
    )
    ledger = Ledger(folder / "ledger.jsonl")
    for number, (trial, (status, values, kind)) in enumerate(TRIALS.items(), start=1):
        setting = {"beta": 10.1 * number, "nested": {"units": number}, "kind": kind, "fixed": 3}
        ledger.append("trial", trial=trial, number=number, config=setting)
        for k, value in enumerate(values, start=1):
            metrics = {"fid": value, "kl": 1.0} | ({"fid_std": value / 10} if k > 1 else {})
            ledger.append("result", trial=trial, epoch=EVALUATE_EVERY * k, metrics=metrics, images={})
        if status:
            ledger.append("end", trial=trial, status=status)
    sweep = SweepRecord("id", "earlier", "tests", "A sweep.", params=lasting_settings(config) | PROVENANCE)
    delivery = MlflowExporter(ledger, folder, uri, sweep)
    delivery.start()
    assert delivery.close(timeout=PATIENCE) == 0, delivery.error
    ledger.close()
    return replace(config, name="later", warm_start="earlier")


@pytest.fixture(params=["folder", "mlflow"])
def later(request, place, tmp_path):
    """The settings of a sweep that starts from it, where its folder is and where it is not."""
    return place if request.param == "folder" else replace(place, results=str(tmp_path))


def test_what_a_sweep_found(later):
    known = earlier_results(STUDY, later)
    search = BayesOptSearch(SPACE, "fid", "min", warm_start=known)
    found = [(o.config, o.value, o.epoch) for o in search.observations()]
    assert found[:2] == [
        ({"beta": 10.1, "nested": {"units": 1}, "kind": "a"}, 5.0, 6),  # fully trained
        ({"beta": 20.2, "nested": {"units": 2}, "kind": None}, 11.0, 4),
    ]
    assert math.isnan(found[2][1]) and found[2][0]["kind"] == 3
    trials = list(search.history.trials.values())
    assert len(trials) == 3 and trials[2].state == FAILED
    assert trials[0].rows == {2: [9.0], 4: [7.0], 6: [5.0]} and trials[0].errors == {4: [0.7], 6: [0.5]}
    assert trials[1].rows == {2: [12.0], 4: [11.0]} and trials[1].errors == {4: [1.1]}


def test_a_metric_nobody_reported(later):
    with pytest.raises(ValueError, match="no trial of 'earlier' reported 'kid'"):
        earlier_results(replace(STUDY, metric="kid"), later)


def test_settings_of_another_space_are_left_out(later, caplog):
    space = {"beta": tune.uniform(1, 15), "kind": tune.choice(["a", "b"])}
    known = earlier_results(replace(STUDY, space=space), later)
    search = BayesOptSearch(space, "fid", "min", warm_start=known)
    assert [o.config["beta"] for o in search.observations()] == [10.1]
    assert "left out" in caplog.text
    numbers = {"kind": tune.uniform(0, 1)}
    known = earlier_results(replace(STUDY, space=numbers), later)
    search = BayesOptSearch(numbers, "fid", "min", warm_start=known)
    assert search.observations() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 32}, "--image-size 64, this sweep is with --image-size 32"),
        ({"evaluation_samples": 500}, "--evaluation-samples 1000, this"),
        ({"epochs": 9}, "--epochs 6, this sweep is with --epochs 9"),
    ],
)
def test_scores_of_other_data_or_of_another_budget_are_refused(later, changes, said):
    with pytest.raises(UsageError, match=f"^--warm-start: 'earlier' was scored with {said}"):
        _earlier(STUDY, replace(later, **changes))
    assert len(_earlier(STUDY, replace(later, seed=3))) == 3


def test_images_of_one_hash_are_the_same_by_whatever_name(later, place):
    assert len(_earlier(STUDY, replace(later, dataset="/moved/faces", dataset_limit=99, crop="square"))) == 3
    unknown = replace(STUDY, provenance={"features": PROVENANCE["features"]})
    for changes, said in (
        ({"dataset": "celeba"}, "--dataset .*, this sweep is with --dataset celeba"),
        ({"dataset_limit": 99}, ".*--dataset-limit None, this sweep is with .*--dataset-limit 99"),
    ):
        with pytest.raises(UsageError, match=f"^--warm-start: 'earlier' was scored with {said}"):
            _earlier(unknown, replace(later, **changes))


def test_scores_of_other_images_under_the_same_name_are_refused(later):
    study = replace(STUDY, provenance=PROVENANCE | {"data_hash": "2"})
    with pytest.raises(UsageError, match=r"^--warm-start: 'earlier' is of other images"):
        _earlier(study, later)


def test_scores_of_another_model_are_refused(place):
    for config in (TuneConfig(**vars(place), model="mine:Other"), FlowConfig(**vars(place), kind="EDM")):
        with pytest.raises(ValueError, match="'earlier' is of another model"):
            earlier_results(STUDY, config)
    assert earlier_results(STUDY, FlowConfig(**vars(place)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study, and a sweep of it on record: four trials, two of them with other settings than the study's."""
    folder = tmp_path_factory.mktemp("trained")
    uri = f"sqlite:///{folder}/mlflow.db"
    settings = {"latent_dim": 8, "image_size": 16, "width": 0.25, "batch_size": 16, "data_hash": "12"}
    settings["feature_identity"] = "by-itself"
    space = {"beta": tune.uniform(1, 150), "accumulate": tune.randint(1, 9)}
    provenance = {"features": "by-itself", "data_hash": "12"}
    study = Study(BetaVAEGAN, space, settings, "fid", "tests", provenance=provenance)
    config = SweepConfig(name="mine", results=str(folder), tracking_uri=uri, image_size=16)
    store(folder / "mine", "python -m searchers.x", "id", config, "12")
    ledger = Ledger(folder / "mine" / "ledger.jsonl")
    for number, own in enumerate(({}, {"gamma": 3.5}, {"seed": 5}, {"recipe": "larsen"}), start=1):
        ledger.append(
            "trial", trial=f"{number}", number=number, config=settings | {"beta": 9.5, "accumulate": 2} | own
        )
        ledger.append("result", trial=f"{number}", epoch=1, metrics={"fid": float(number)}, images={})
        ledger.append("end", trial=f"{number}", status=STOPPED)
    with MlflowExporter(
        ledger, folder, uri, sweep_record(study, None, config, "id", "python -m searchers.x")
    ):
        pass
    ledger.close()
    return study, replace(config, name="later", warm_start="mine")


def test_an_extractor_is_known_by_what_it_is_not_by_its_name(trained):
    """`auto` stands for one of them."""
    study, config = trained
    same = replace(study, settings={**study.settings, "feature_identity": "by-itself"})
    assert len(earlier_results(same, replace(config, features="dinov2"))) == 2
    other = replace(same, provenance={**(study.provenance or {}), "features": "by-another"})
    with pytest.raises(ValueError, match="--features by-itself, this sweep is with --features by-another"):
        earlier_results(other, config)


@pytest.mark.parametrize("mlflow", [False, True])
def test_only_trials_that_this_sweep_would_train_alike_teach_it(trained, tmp_path, caplog, mlflow):
    study, config = trained
    config = replace(config, results=str(tmp_path)) if mlflow else config

    def values(**changes):
        changed = replace(study, settings=study.settings | changes)
        return [value for _, (value,), _ in earlier_results(changed, config)]

    assert values() == [1.0, 3.0]
    assert "2 of 4 trials of 'mine' were trained otherwise: its gamma is 3.5" in caplog.text
    assert values(gamma=3.5) == [2.0]
    assert values(recipe="larsen") == [4.0]
    for changes, said in (
        ({"width": 0.5}, r"4 of 4 trials .*: its width is 0\.25, this sweep's 0\.5"),
        ({"flip": True}, "its flip is False, this sweep's True"),
        ({"batch_size": 32}, "its batch_size is 16, this sweep's 32"),
        ({"evaluate_every": 2}, "its evaluate_every is 1, this sweep's 2"),
        ({"scores_hash": "other"}, "its scores_hash is None, this sweep's other"),
        ({"latent_dim": 4}, "its latent_dim is 8, this sweep's 4"),
    ):
        with pytest.raises(ValueError, match=said):
            values(**changes)


def test_what_an_earlier_version_did_not_search_had_the_models_own_value(trained):
    study, config = trained
    wider = replace(study, space={**study.space, "gamma": tune.loguniform(0.1, 9)})
    gamma = BetaVAEGAN.model_of(study.settings)[0].Config.gamma
    places = [place for place, *_ in earlier_results(wider, config)]
    assert sorted(place["gamma"] for place in places) == sorted([gamma, 3.5, gamma])


def test_scores_by_other_features_are_refused(later, place):
    """In the folder there is the flag; in MLflow what it came to, with the hash of weights and the resize."""
    dinov2 = replace(STUDY, provenance={"features": "dinov2-of-other-weights"})
    with pytest.raises(ValueError, match="--features inception"):
        earlier_results(dinov2, replace(later, features="dinov2"))
    if later is not place:
        earlier_results(STUDY, replace(later, features="auto"))


def test_where_there_is_no_such_sweep(place, tmp_path):
    """Neither a folder nor a record, no record at all, and two of the name."""
    uri = place.tracking_uri
    with pytest.raises(ValueError, match=r"/nothing holds no sweep, and MLflow at .* has none of that name"):
        earlier_results(STUDY, replace(place, warm_start="nothing"))
    away = f"sqlite:///{tmp_path}/none.db"
    with pytest.raises(ValueError, match=r"holds no sweep, and there is no MLflow database at .*none\.db"):
        earlier_results(STUDY, replace(place, warm_start="nothing", tracking_uri=away))
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(ValueError, match="does not answer"):
        earlier_results(STUDY, replace(place, warm_start="nothing", tracking_uri="http://127.0.0.1:9"))
    for sweep in ("one", "two"):
        ledger = Ledger(tmp_path / f"{sweep}.jsonl")
        delivery = MlflowExporter(ledger, tmp_path, uri, SweepRecord(sweep, "twice", "tests", "A sweep."))
        delivery.start()
        assert delivery.close(timeout=PATIENCE) == 0, delivery.error
    with pytest.raises(ValueError, match="has 2 of that name"):
        earlier_results(STUDY, replace(place, warm_start="twice"))
