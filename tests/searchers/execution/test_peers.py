"""Searchers of other packages: over any space, by what they know, and after a resumption as before."""

import math

import numpy as np
import pytest
from ray import tune
from ray.tune.search import Searcher

from searchers.bayesopt.history import FAILED
from searchers.bayesopt.space import Choice, Integer, Ordinal, Real, Space
from searchers.execution.peers import PEERS, PeerSearch, grid_of
from searchers.execution.search import make_search
from searchers.record.trials import TrialRecord
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study

SPACE = {
    "rate": tune.loguniform(1e-4, 1.0),
    "layers": tune.randint(1, 5),
    "drop": tune.quniform(0.0, 0.5, 0.1),
    "kind": tune.choice(["a", "b", "c"]),
    "width": tune.choice([16, 32, 64]),
}
STOP = {"training_iteration": 2}


def score(config) -> float:
    """The least, 0, at rate 0.01, 3 layers, no drop, kind b, width 64."""
    return (
        math.log10(config["rate"] / 0.01) ** 2
        + abs(config["layers"] - 3)
        + 4 * config["drop"]
        + (config["kind"] != "b")
        + (config["width"] != 64)
    )


def search(kind, trials=24, mode="min", seed=0):
    space = SPACE
    if kind == "bayesian-optimization":  # it searches numbers
        space = {**SPACE, "kind": "b"}
    if kind == "grid":
        study = Study(trainable=None, space=space, metric="loss", mode=mode)
        made = make_search(study, SweepConfig(searcher="grid", num_samples=trials), None)
    else:
        made = PeerSearch(kind, "loss", mode, seed=seed, starts=6)
    assert made.set_search_properties("loss", mode, space, stop=STOP)
    return made


def run(made, trials, sign=1):
    """Train trials one after another, every third stopped early; return configurations and scores."""
    tried = []
    for number in range(trials):
        config = made.suggest(f"t{number}")
        if config == Searcher.FINISHED:
            break
        value = sign * score({"kind": "b"} | config)
        made.on_trial_result(f"t{number}", {"training_iteration": 1, "loss": value + sign})
        if number % 3 == 2 and hasattr(made, "on_pause"):
            made.on_pause(f"t{number}")
        else:
            made.on_trial_complete(f"t{number}", {"training_iteration": 2, "loss": value})
        tried.append((config, value))
    return tried


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("kind", PEERS)
def test_each_proposes_inside_the_space_and_most_learn(kind, mode):
    sign = 1 if mode == "min" else -1
    tried = run(search(kind, mode=mode), 24, sign)
    for config, _ in tried:
        assert 1e-4 <= config["rate"] <= 1.0 and config["layers"] in (1, 2, 3, 4)
        assert config.get("kind", "b") in "abc" and config["width"] in (16, 32, 64)
        assert config["drop"] == pytest.approx(round(config["drop"], 1)) and 0 <= config["drop"] <= 0.5
    if kind not in ("random", "grid"):  # what it proposes at the end is better than what it drew at first
        values = sign * np.array([value for _, value in tried])
        assert values[-8:].mean() < values[:6].mean()


@pytest.mark.parametrize("kind", ["optuna-tpe", "optuna-gp"])
def test_a_step_need_not_divide_a_bound(kind):
    """Ours are multiples of it, Optuna's begin at the lower bound."""
    made = PeerSearch(kind, "loss", "min", seed=0, starts=3)
    space = {"units": tune.qrandint(12, 64, 8), "drop": tune.quniform(0.1, 0.3, 0.1)}
    space |= {"width": tune.qlograndint(3, 40, 4)}
    made.set_search_properties("loss", "min", space, stop=STOP)
    asked = []
    for number in range(12):
        asked.append(made.suggest(f"t{number}"))
        made.on_trial_complete(f"t{number}", {"training_iteration": 2, "loss": float(number)})
    assert {type(config["units"]) for config in asked} == {int}
    assert {config["units"] for config in asked} <= set(range(16, 65, 8))
    assert {round(config["drop"], 9) for config in asked} <= {0.1, 0.2, 0.3}
    assert {config["width"] for config in asked} <= set(range(4, 41, 4)) and len(set(map(str, asked))) > 6


def test_a_choice_without_an_order_is_none_of_its_numbers():
    study = Study(trainable=None, space=SPACE, metric="loss")
    with pytest.raises(UsageError, match="searches numbers, and kind is a choice without an order"):
        make_search(study, SweepConfig(searcher="bayesian-optimization"), None)


def test_running_trials_are_not_proposed_again():
    """Eight workers ask before any answers: what runs counts as tried."""
    for kind in ("bayesian-optimization", "optuna-tpe", "random"):
        made = search(kind)
        run(made, 10)
        asked = [made.suggest(f"r{n}") for n in range(8)]
        assert len({str(config) for config in asked}) >= 7


def test_a_ledger_brings_it_back_where_it_was():
    made = search("optuna-tpe")
    tried = run(made, 9)
    records = []
    for number, (config, value) in enumerate(tried):
        paused = number % 3 == 2
        metrics = {1: {"loss": value + 1}} | ({} if paused else {2: {"loss": value}})
        records.append(
            TrialRecord(f"t{number}", number + 1, dict(config), metrics, None if paused else "finished")
        )
    again = search("optuna-tpe")
    again.replay(records)
    for number in (2, 5, 8):
        again.on_pause(f"t{number}")
    assert again.suggest("next") == made.suggest("next")


def test_a_failed_and_a_diverged_trial_teach_nothing_wrong():
    for kind in PEERS:
        made = search(kind)
        run(made, 8)
        made.suggest("failed")
        made.on_trial_complete("failed", error=True)
        made.suggest("diverged")
        made.on_trial_result("diverged", {"training_iteration": 1, "diverged": True, "loss": 0.0})
        made.on_trial_complete("diverged")
        assert kind == "grid" or made.history.trials["diverged"].state == FAILED
        assert isinstance(made.suggest("next"), dict)


@pytest.mark.parametrize(
    ("dimensions", "most", "shape"),
    [
        ([Real("x", 0.0, 1.0)], 5, 5),
        ([Real("x", 0.0, 1.0), Real("y", 1e-3, 1.0, log=True)], 10, 9),
        ([Choice("k", ("a", "b")), Real("x", 0.0, 1.0)], 12, 12),
        ([Integer("n", 1, 2), Ordinal("o", (1, 2)), Choice("k", ("a",))], 100, 4),
        ([Real("x", 0.0, 1.0)], 1, 1),
    ],
)
def test_a_grid_has_as_many_levels_one_way_as_another(dimensions, most, shape):
    points = grid_of(Space(dimensions), most)
    assert len(points) == shape <= most
    assert len({str(point) for point in points}) == shape


def test_a_grid_s_levels_reach_from_end_to_end():
    values = [point["y"] for point in grid_of(Space([Real("y", 1e-3, 1.0, log=True)]), 4)]
    assert values == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])


def test_a_grid_has_no_point_twice():
    space = Space([Integer("n", 1, 100, log=True)])
    values = [point["n"] for point in grid_of(space, 20)]
    assert len(values) == len(set(values)) < 20


def test_all_but_the_grid_begin_with_the_first_points():
    for kind in PEERS.keys() - {"grid"}:
        made = PeerSearch(kind, "loss", "min", seed=0, starts=6, first=[{"rate": 0.5}, {"layers": 2}])
        space = {**SPACE, "kind": "b"} if kind == "bayesian-optimization" else SPACE
        made.set_search_properties("loss", "min", space, stop=STOP)
        assert made.suggest("a")["rate"] == 0.5 and made.suggest("b")["layers"] == 2


def test_a_grid_ends():
    made = search("grid", trials=7)
    assert 1 <= len(run(made, 24)) <= 7
    assert made.suggest("more") == Searcher.FINISHED


STUDY = Study(trainable=None, space={"rate": tune.loguniform(1e-4, 1.0)}, metric="loss")


@pytest.mark.parametrize(
    ("study", "settings", "sentence"),
    [
        (STUDY, {"surrogate": "matern"}, "--surrogate is for this project's own searcher"),
        (STUDY, {"warm_start": "x"}, "--warm-start is for this project's own searcher"),
        (
            Study(trainable=None, space=STUDY.space, metric="loss", objectives={"kl": "min"}),
            {},
            "weighs one score",
        ),
    ],
)
def test_what_another_searcher_cannot_do_is_refused(study, settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        make_search(study, SweepConfig(searcher="optuna-tpe", **settings), None)
