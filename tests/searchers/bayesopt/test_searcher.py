"""The searcher: what it proposes, what it survives, and that a saved one goes on as it would have."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bayes_opt import BayesianOptimization, acquisition
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import ConcurrencyLimiter, Repeater
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from cluster import ray_patches
from searchers.bayesopt.acquisition import contains
from searchers.bayesopt.gp import GaussianProcess, Hyperparameters
from searchers.bayesopt.history import ENDED, FAILED
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import Choice, Integer, Real, Space, SpaceError
from searchers.execution.driver import tune_settings
from searchers.record.trials import TrialRecord
from tests.fixtures.embedded import embedded_ray
from tests.fixtures.settings import SMALL_FACES
from trainables import VAE

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


def test_report_kernel_proposes_what_the_bayesian_optimization_package_does():
    package = BayesianOptimization(
        f=None,
        pbounds={"beta": (1, 150)},
        acquisition_function=acquisition.ExpectedImprovement(xi=0.0, random_state=0),
        random_state=0,
        verbose=0,
    )
    kernel = ConstantKernel(50.0**2, "fixed") * RBF(30.0, "fixed")
    package.set_gp_params(kernel=kernel, optimizer=None, normalize_y=False, alpha=1e-6 * 50.0**2)
    mean = np.mean([fid for _, fid in REPORT])
    for beta, fid in REPORT:
        package.register({"beta": beta}, target=mean - fid)
    expected = package.suggest()["beta"]
    assert after_the_report(surrogate="report").suggest("next")["beta"] == pytest.approx(expected, abs=0.05)


def test_maximizing_the_negated_metric_is_the_same_search():
    search = BayesOptSearch({"beta": tune.uniform(1, 150)}, "score", "max", surrogate="report")
    for i, (beta, fid) in enumerate(REPORT):
        search.add_evaluated_point({"beta": beta}, -fid)
        assert search.history.trials[f"known-{i}"].rows == {0: [-fid]}
    search.suggested = 4
    assert search.suggest("next")["beta"] == pytest.approx(
        after_the_report(surrogate="report").suggest("next")["beta"], abs=1e-6
    )


MIXED = {
    "rate": tune.loguniform(1e-5, 1e-1),
    "nested": {"units": tune.lograndint(4, 65)},
    "kind": tune.choice(["a", "b", "c"]),
}


def loss(config):
    units = math.log2(config["nested"]["units"]) - 4
    return (math.log10(config["rate"]) + 3) ** 2 + 0.3 * units**2 + "abc".index(config["kind"])


def run(search, function, trials, first=0):
    """Ask and tell, one after another; return the configurations."""
    configs = []
    for i in range(first, first + trials):
        configs.append(search.suggest(f"t{i}"))
        search.on_trial_complete(f"t{i}", {"loss": function(configs[-1]), "training_iteration": 1})
    return configs


def points(search):
    return np.array([search.space.unit(t.codes) for t in search.history.trials.values()])


def test_it_finds_the_optimum_of_a_mixed_space():
    search = BayesOptSearch(MIXED, "loss", "min", seed=1)
    run(search, loss, 25)
    config, value = search.best()
    assert config["kind"] == "a" and loss(config) < 0.1
    assert value == pytest.approx(loss(config), abs=0.2)


def test_the_best_is_the_best_mean_not_the_luckiest_value():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", surrogate="fitted")
    rng = np.random.default_rng(0)
    for x in np.linspace(0, 1, 60):
        search.add_evaluated_point({"x": float(x)}, 10 * (x - 0.3) ** 2 + 0.3 * rng.standard_normal())
    search.add_evaluated_point({"x": 0.9}, -1.0)  # truly 3.6
    config, value = search.best()
    assert abs(config["x"] - 0.3) < 0.15 and value == pytest.approx(0.0, abs=0.3)


def test_noise_is_not_interpolated_and_not_chased_with_near_duplicates():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=2)
    rng = np.random.default_rng(1)
    run(search, lambda c: (c["x"] - 0.5) ** 2 + 0.5 * rng.standard_normal(), 20)
    _, std = search.posterior([{"x": 0.5}])
    assert std[0] > 0.02
    x = np.sort(points(search)[:, 0])
    assert (np.diff(x) < 1e-4).sum() <= 3


def test_measured_noise_is_taken_from_the_results():
    def posterior(**settings):
        search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", surrogate="matern", **settings)
        for i, x in enumerate((0.2, 0.4, 0.6)):
            search.history.start(str(i), {"x": x})
            result = {"loss": float(i), "training_iteration": 1, "loss_std": 0.7}
            search.on_trial_complete(str(i), result)
        return search.posterior([{"x": 0.4}])[1][0]

    assert posterior(noise_key="loss_std") == pytest.approx(posterior(noise=0.7))
    assert posterior(noise_key="missing") == pytest.approx(posterior()) != posterior(noise=0.7)


def test_expected_improvement_and_posterior_are_in_the_metrics_own_units():
    low, high = (BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", mode) for mode in ("min", "max"))
    for x in (0.1, 0.4, 0.8):
        low.add_evaluated_point({"x": x}, 100 + 50 * x)
        high.add_evaluated_point({"x": x}, -100 - 50 * x)
    grid = [{"x": float(x)} for x in np.linspace(0, 1, 7)]
    mean, std = low.posterior(grid)
    negated, same = high.posterior(grid)
    np.testing.assert_allclose(mean, -negated)
    np.testing.assert_allclose(std, same)
    assert 95 < mean.min() < mean.max() < 155
    improvement = low.expected_improvement(grid)
    np.testing.assert_allclose(improvement, high.expected_improvement(grid))
    rng = np.random.default_rng(0)
    best = low.posterior([{"x": 0.1}])[0][0]  # the incumbent: the best mean among what was tried
    drawn = mean + std * rng.standard_normal((200_000, 1))
    np.testing.assert_allclose(improvement, np.maximum(best - drawn, 0).mean(0), atol=0.02 * std.max())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, None, "error"])
def test_failures_clear_what_waits_and_are_avoided(bad):
    """Half of the space fails: of ten proposals after the first four, at most three on average go there."""
    there = []
    for seed in range(6):
        search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=seed)
        for i in range(14):
            x = search.suggest(str(i))["x"]
            if x < 0.5 and bad == "error":
                search.on_trial_complete(str(i), None, error=True)
            elif x < 0.5:
                search.on_trial_complete(str(i), {"loss": bad, "training_iteration": 1})
            else:
                search.on_trial_complete(str(i), {"loss": (x - 0.75) ** 2, "training_iteration": 1})
        assert not search.history.pending()
        assert any(t.state == FAILED for t in search.history.trials.values())
        there.append((points(search)[4:, 0] < 0.5).sum())
    assert np.mean(there) <= 3


def test_one_value_out_of_all_proportion_does_not_hide_the_others():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=0)
    search.add_evaluated_point({"x": 0.95}, 1e9)
    run(search, lambda c: (c["x"] - 0.3) ** 2 if c["x"] < 0.9 else 1e9, 12)
    config, value = search.best()
    assert abs(config["x"] - 0.3) < 0.05 and value == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("objectives", [{}, {"mig": "max"}])
@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("finite", [{}, {"loss": 0.01, "mig": 0.9}])
def test_a_trial_that_diverged_has_failed_whatever_scores_its_result_has(objectives, epoch, finite):
    """The trainable tells NaN of the one score it knows to count, whichever ones the search is for."""
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", objectives=objectives)
    for trial in "ab":
        search.suggest(trial)
        for i in range(1, epoch + (trial == "a")):
            search.on_trial_result(trial, {"loss": 0.1 * i, "mig": 0.5, "training_iteration": i})
    search.on_trial_complete("a")
    last = {"fd": math.nan, "diverged": True, "training_iteration": epoch} | finite
    search.on_trial_complete("b", last)
    assert {name: t.state for name, t in search.history.trials.items()} == {"a": ENDED, "b": FAILED}
    assert [o.trial_id for o in search.pareto_front()] == ["a"]
    assert search.best()[0] == search.space.configuration(search.history.trials["a"].codes)


def test_nothing_but_failures_is_no_end():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min")
    for i in range(8):
        assert search.suggest(str(i)) is not None
        search.on_trial_complete(str(i), None, error=True)
    with pytest.raises(ValueError, match="finite value"):
        search.best()


def test_an_exhausted_space_is_tried_whole_and_then_again():
    search = BayesOptSearch(
        {"a": tune.randint(0, 4), "b": tune.choice(["x", "y", "z"])}, "loss", "min", seed=5
    )
    configs = run(search, lambda c: c["a"] + "xyz".index(c["b"]), 12)
    assert len({(c["a"], c["b"]) for c in configs}) == 12
    assert run(search, lambda c: c["a"] + "xyz".index(c["b"]), 3, first=12)


def test_a_hundred_in_flight_differ_and_nothing_waits_for_results():
    search = BayesOptSearch(MIXED, "loss", "min", seed=0)
    configs = [search.suggest(str(i)) for i in range(100)]
    for i in range(8):
        search.on_trial_complete(str(i), {"loss": loss(configs[i]), "training_iteration": 1})
    configs += [search.suggest(str(i)) for i in range(100, 108)]
    assert len(search.history.pending()) == 100
    assert len({json.dumps(c) for c in configs}) == 108
    U = points(search)
    apart = np.abs(U[:, None] - U[None]).max(2) + np.eye(len(U))
    assert (apart.min(1) > 0.005).mean() > 0.9


def test_first_points_may_be_partial_and_are_checked():
    search = BayesOptSearch(MIXED, "loss", "min", points_to_evaluate=[{"rate": 1e-2}, {"kind": "c"}])
    assert search.suggest("0")["rate"] == 1e-2 and search.suggest("1")["kind"] == "c"
    with pytest.raises(SpaceError, match=r"points_to_evaluate\[0\]: rate = 2.0 lies outside"):
        BayesOptSearch(MIXED, "loss", "min", points_to_evaluate=[{"rate": 2.0}])


def test_a_first_point_whose_trial_never_began_is_suggested_after_a_replay():
    """Workers begin in any order: the second point's trial is in no ledger, the third's is."""
    first = [{"x": 0.1}, {"x": 0.2}, {"x": 0.3}, {"x": 0.1}]
    search = BayesOptSearch(points_to_evaluate=first)
    search.set_search_properties("loss", "min", {"x": tune.uniform(0, 1)})
    begun = [TrialRecord("a", 1, {"x": 0.1}), TrialRecord("b", 2, {"x": 0.3})]
    search.replay(begun)
    search.set_search_properties("loss", "min", {"x": tune.uniform(0, 1)})  # as Tune does, once more
    assert [search.suggest(name)["x"] for name in "cd"] == [0.2, 0.1]
    assert search.suggest("e")["x"] not in (0.1, 0.2, 0.3)


def test_a_first_point_that_a_warm_start_knows_is_not_tried_again():
    first = [{"x": 0.1}, {"x": 0.2}, {"x": 0.3}, {"x": 0.1}]
    known = [({"x": 0.1}, 1.0), ({"x": 0.2}, math.nan)]
    search = BayesOptSearch(points_to_evaluate=first, warm_start=known)
    for _ in range(2):  # as Tune does
        search.set_search_properties("loss", "min", {"x": tune.uniform(0, 1)})
    search.replay([TrialRecord("a", 1, {"x": 0.3})])
    assert [search.suggest(name)["x"] for name in "bc"] == [0.2, 0.1]
    assert search.suggest("d")["x"] not in (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("point", "says"),
    [
        (
            {"learning_rate": 1e-2},
            "'learning_rate' is not searched; the dimensions are rate, nested/units, kind",
        ),
        ({"nested": {"unit": 8}}, "'nested/unit' is not searched"),
        ({"nested": {"units": 4.5}}, r"nested/units = 4.5 is no multiple of 1; the nearest is 4"),
        ({"kind": "d"}, "kind = 'd' is none of"),
    ],
)
def test_a_first_point_that_no_trial_could_be_given_is_refused(point, says):
    with pytest.raises(SpaceError, match=rf"points_to_evaluate\[0\]: {says}"):
        BayesOptSearch(MIXED, "loss", "min", points_to_evaluate=[point])


def test_a_first_point_may_repeat_a_constant_and_not_change_it():
    space = {"x": tune.uniform(0, 1), "fixed": {"epochs": 3}}
    search = BayesOptSearch(space, "loss", "min", points_to_evaluate=[{"x": 0.5, "fixed": {"epochs": 3}}])
    assert search.suggest("0") == {"x": 0.5, "fixed": {"epochs": 3}}
    later = BayesOptSearch(metric="loss", mode="min", points_to_evaluate=[{"x": 0.5, "fixed": {"epochs": 3}}])
    assert later.set_search_properties(None, None, space) and later.suggest("0") == {"x": 0.5}
    with pytest.raises(SpaceError, match="'fixed/epochs' is not searched"):
        BayesOptSearch(space, points_to_evaluate=[{"fixed": {"epochs": 4}}])


def test_copies_of_a_choice_are_one():
    search = BayesOptSearch({"kind": tune.choice(["a", "a", "b"])}, "loss", "min", seed=0)
    configs = run(search, lambda c: float(c["kind"] == "a"), 6)
    assert {c["kind"] for c in configs[:2]} == {"a", "b"}


def test_values_that_differ_by_very_little_are_different():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=0)
    run(search, lambda c: 1e-14 * (c["x"] - 0.3) ** 2, 15)
    assert abs(search.best()[0]["x"] - 0.3) < 0.05


def test_a_wide_range_of_integers_costs_no_list_of_them():
    search = BayesOptSearch({"seed": tune.randint(0, 2**31 - 1)}, "loss", "min", seed=0)
    configs = run(search, lambda c: abs(c["seed"] / 2**31 - 0.7), 12)
    assert all(type(c["seed"]) is int and 0 <= c["seed"] < 2**31 - 1 for c in configs)
    assert search.space.grids == [None] and abs(search.best()[0]["seed"] / 2**31 - 0.7) < 0.1


def test_an_unknown_mode_of_tunes_is_refused():
    with pytest.raises(ValueError, match="mode is 'maximize'"):
        BayesOptSearch().set_search_properties("loss", "maximize", {"x": tune.uniform(0, 1)})


def test_a_row_after_a_trials_end_breaks_nothing():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=0)
    run(search, lambda c: c["x"], 6)
    search.on_trial_result("t2", {"loss": math.nan, "training_iteration": 2})
    assert 0 <= search.suggest("next")["x"] <= 1
    assert search.history.trials["t2"].state == FAILED


def test_a_trial_that_is_tried_again_after_an_error_waits_for_its_result():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=0)
    search.suggest("0")
    search.on_trial_complete("0", None, error=True)
    assert not search.history.pending()
    search.on_trial_result("0", {"loss": 1.0, "training_iteration": 1})
    assert search.history.pending()


def test_known_values_count_and_those_outside_the_space_are_left_out(caplog):
    known = [({"x": x}, (x - 0.7) ** 2) for x in (0.0, 0.25, 0.5, 0.75, 1.0)]
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", warm_start=[*known, ({"x": 3.0}, 0.0)])
    assert "3.0 lies outside" in caplog.text and len(search.history.trials) == 5
    later = BayesOptSearch(metric="loss", mode="min", warm_start=known)
    assert later.set_search_properties(None, None, {"x": tune.uniform(0, 1)})
    assert len(later.history.trials) == 5
    stopped = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", warm_start=[({"x": 0.1}, [3.0, 2.0])])
    assert [(o.value, o.epoch) for o in stopped.observations()] == [(2.0, 2)]
    assert abs(search.suggest("0")["x"] - 0.7) < 0.2  # no random starts where enough is known


def test_what_tune_says_of_metric_mode_and_space():
    search = BayesOptSearch()
    with pytest.raises(SpaceError, match="no search space"):
        search.suggest("0")
    assert search.set_search_properties("loss", "min", {"x": tune.uniform(0, 1), "fixed": 3})
    assert search.suggest("0").keys() == {"x"}  # Tune itself adds what is constant
    given = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min")
    assert given.set_search_properties(None, None, {"fixed": 3})
    assert not given.set_search_properties(None, None, {"y": tune.uniform(0, 1)})
    with pytest.raises(ValueError, match="mode None"):
        BayesOptSearch({"x": tune.uniform(0, 1)}, "loss").suggest("0")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"surrogate": "rbf"}, "'rbf'.*'fitted', 'report', 'matern', 'nuts'"),
        ({"acquisition": "ei"}, "'ei'.*'log_ei'"),
        ({"mode": "minimum"}, "'minimum'"),
        ({"noise": -1.0}, "-1.0"),
        ({"acquisition": "noisy_ei", "surrogate": "nuts"}, "'nuts' is many"),
    ],
)
def test_unknown_settings_are_refused_with_the_known_ones(setting, says):
    with pytest.raises(ValueError, match=says):
        BayesOptSearch({"x": tune.uniform(0, 1)}, **{"metric": "loss", "mode": "min"} | setting)


def test_a_trial_whose_suggestion_was_lost_is_taken_in():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min")
    search.on_trial_result("old", {"loss": 1.0, "training_iteration": 1, "config": {"x": 0.3}})
    search.on_trial_complete("old", {"loss": 0.5, "training_iteration": 2, "config": {"x": 0.3}})
    search.on_trial_complete("strange", {"loss": 0.5, "config": {"y": 0.3}})
    (seen,) = search.observations()
    assert (seen.config, seen.value, seen.epoch) == ({"x": 0.3}, 0.5, 2)


def test_limiter_and_repeater_around_it(tmp_path):
    limited = ConcurrencyLimiter(BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min"), max_concurrent=2)
    assert limited.suggest("a") and limited.suggest("b") and limited.suggest("c") is None
    limited.on_trial_complete("a", {"loss": 1.0, "training_iteration": 1})
    assert limited.suggest("c")
    inner = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min")
    repeated = Repeater(inner, repeat=3)
    configs = [repeated.suggest(str(i)) for i in range(3)]
    assert len({c["x"] for c in configs}) == 1
    for i, value in enumerate((1.0, 2.0, 6.0)):
        repeated.on_trial_complete(str(i), {"loss": value, "training_iteration": 4})
    assert [o.value for o in inner.observations()] == [3.0]
    repeated.save(str(tmp_path / "state"))
    again = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min")
    again.restore(str(tmp_path / "state"))
    assert again.suggest("n") == inner.suggest("n")


def test_a_saved_state_of_another_space_is_refused(tmp_path):
    path = str(tmp_path / "state")
    BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min").save(path)
    with pytest.raises(SpaceError, match="searched"):
        BayesOptSearch({"x": tune.uniform(0, 2)}, "loss", "min").restore(path)
    late = BayesOptSearch()
    late.restore(path)
    with pytest.raises(SpaceError, match="searched"):
        late.set_search_properties(None, None, {"x": tune.uniform(0, 2)})
    assert late.set_search_properties(None, None, {"x": tune.uniform(0, 1)})


def halves(config, epoch):
    """A curve that falls to (x − 0.3)²."""
    return (config["x"] - 0.3) ** 2 + 1 / epoch


def partially_trained(search, count=8, epochs=9):
    """Trials of which every other one is paused after its first epoch; the others are trained to the end."""
    configs = {}
    for i in range(count):
        configs[str(i)] = search.suggest(str(i))
        for epoch in range(1, (1 if i % 2 else epochs) + 1):
            row = {"loss": halves(configs[str(i)], epoch), "training_iteration": epoch}
            search.on_trial_result(str(i), row)
        if i % 2:
            search.on_pause(str(i))
        else:
            search.on_trial_complete(str(i), row)
    return configs


def test_a_paused_trial_goes_on_where_it_promises_more_than_a_new_one():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=0, max_epochs=9)
    configs = partially_trained(search)
    paused = [i for i in configs if int(i) % 2]
    best = min(paused, key=lambda i: abs(configs[i]["x"] - 0.3))
    assert search.next_trial("n", paused, begin=False) == best
    search.on_unpause(best)
    assert search.history.pending() == [search.history.trials[best]]
    assert search.next_trial("n", [], begin=False) is None
    choices = [search.next_trial(f"n{i}", [i for i in paused if i != best]) for i in range(6)]
    assert any(isinstance(c, dict) for c in choices)


def test_what_a_trial_would_reach_is_told_of_every_trial():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=0, max_epochs=9)
    configs = partially_trained(search)
    finals = search.predicted_finals()
    assert finals.keys() == configs.keys()
    for i, (mean, low, high) in finals.items():
        true = halves(configs[i], 9)
        assert abs(mean - true) < 0.01 if int(i) % 2 == 0 else low - 0.05 < true < high + 0.05
    states = [o.state for o in search.observations()]
    assert states == ["finished", "paused"] * 4
    said = search.forecast([{"x": 0.3}, {"x": 0.9}])
    assert said.mean[0] < said.mean[1]
    assert (said.band_of_run[0] < said.band[0]).all() and (said.band[1] < said.band_of_run[1]).all()


def test_the_best_fully_trained_configurations_are_trained_again_once_with_another_seed():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=3, max_epochs=9)
    configs = partially_trained(search)
    whole = sorted((i for i in configs if int(i) % 2 == 0), key=lambda i: halves(configs[i], 9))
    first, second = search.replicate("a"), search.replicate("b")
    assert [first["x"], second["x"]] == [configs[i]["x"] for i in whole[:2]]
    assert first["seed"] == second["seed"] == 4
    for name in "abcd":
        search.replicate(name)
    assert search.replicate("e") is None


@pytest.mark.parametrize("shared", [True, False])
def test_a_sweep_trains_its_own_best_again_also_where_another_trained_the_same(shared):
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", seed=3, max_epochs=9)
    configs = partially_trained(search)
    best = min((configs[i] for i in configs if int(i) % 2 == 0), key=lambda c: halves(c, 9))
    for n, config in enumerate(
        (best, {"x": 0.3}, configs["1"])
    ):  # two of them are better; the last waits here
        curve = [halves(config, epoch) - (config is configs["1"]) for epoch in range(1, 10)]
        if shared:
            metrics = {epoch: {"loss": value} for epoch, value in enumerate(curve, 1)}
            search.learn(TrialRecord(f"other-id/{n}", n, config, metrics, "finished"))
        else:
            search.add_evaluated_point(config, curve[-1], intermediate_values=curve)
    again = BayesOptSearch()
    again.set_state(json.loads(json.dumps(search.get_state())))
    assert search.replicate("a") == again.replicate("a") == {**best, "seed": 4}


def test_where_every_trial_diverged_nothing_is_trained_again():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", max_epochs=9)
    search.suggest("a")
    search.on_trial_complete("a", {"loss": math.nan, "training_iteration": 9, "diverged": True})
    assert search.replicate("b") is None


def test_a_restored_searcher_knows_its_space_and_decides_as_the_other_would():
    space = {"x": tune.uniform(0, 1), "n": tune.lograndint(1, 9), "kind": tune.choice(["a", None, halves])}
    search = BayesOptSearch(space, "loss", "min", seed=0, max_epochs=9)
    partially_trained(search, 10)
    state = json.loads(json.dumps(search.get_state()))
    again = BayesOptSearch()
    again.set_state(state)
    paused = [str(i) for i in range(1, 10, 2)]
    for i in range(4):
        assert again.next_trial(f"n{i}", paused) == search.next_trial(f"n{i}", paused)
    assert again.get_state() == search.get_state()
    with pytest.raises(ValueError, match="version 1; this searcher reads 3"):
        again.set_state({**state, "version": 1})


def test_a_choice_that_cannot_be_built_again_waits_for_the_space_to_be_given(caplog):
    space = {"x": tune.uniform(0, 1), "kind": tune.choice([SimpleNamespace(a=1), SimpleNamespace(a=2)])}
    state = json.loads(json.dumps(BayesOptSearch(space, "loss", "min").get_state()))
    again = BayesOptSearch()
    again.set_state(state)
    assert "give the search space itself" in caplog.text
    with pytest.raises(SpaceError, match="no search space"):
        again.suggest("0")
    assert again.set_search_properties(None, None, space) and again.suggest("0")


def test_results_of_several_searches_are_rows_of_one_model():
    """A warm start with curves: what stopped early elsewhere teaches as what was paused here."""
    known = [
        ({"x": x}, [halves({"x": x}, e) for e in range(1, 10 if x < 0.5 else 3)])
        for x in (0.1, 0.3, 0.6, 0.9)
    ]
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", warm_start=known, max_epochs=9)
    mean, _ = search.posterior([{"x": 0.3}, {"x": 0.9}])
    assert mean[0] == pytest.approx(1 / 9, abs=0.03) and mean[1] > mean[0] + 0.1
    assert search.replicate("again") is None  # the sweep that trained them could repeat them


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("surrogate", "further"), [("fitted", 0), ("matern", 0), ("matern", 1)])
def test_where_no_curves_are_modelled_the_best_of_those_that_came_furthest_goes_on(mode, surrogate, further):
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", mode, surrogate=surrogate)
    values = [math.nan, 5.0, 1.0, 2.0, 3.0]
    for number, value in enumerate(values):
        search.history.start(str(number), {"x": number / 8})
        for epoch in range(3, 3 + 1 + further * (number > 2)):
            search.history.report(str(number), epoch, [value if mode == "min" else -value], None)
        search.history.pause(str(number))
    best = "3" if further else "2"
    assert search.next_trial("never", list(search.history.trials), begin=False) == best


class AnyOrder(RuleBasedStateMachine):
    """Suggestions, results, ends, errors, saves and restores in any order."""

    SPACE = Space([Real("x", 0, 1), Integer("n", 1, 5), Choice("c", ("p", "q"))], {"fixed": 1})

    @initialize(
        seed=st.integers(0, 99),
        mode=st.sampled_from(["min", "max"]),
        acquisition=st.sampled_from(["log_ei", "noisy_ei", "ucb"]),
    )
    def begin(self, **settings):
        mode = settings.pop("mode")
        self.search = BayesOptSearch(self.SPACE, "loss", mode, random_starts=2, **settings)
        self.running, self.count = {}, 0

    @precondition(lambda self: self.count < 12)
    @rule()
    def suggest(self):
        config = self.search.suggest(f"t{self.count}")
        assert 0 <= config["x"] <= 1 and config["n"] in range(1, 6) and config["c"] in "pq"
        assert config["fixed"] == 1 and type(config["n"]) is int and type(config["x"]) is float
        self.running[f"t{self.count}"] = 0
        self.count += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data(), value=st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf, 1e300]))
    def report(self, data, value):
        trial = data.draw(st.sampled_from(sorted(self.running)))
        self.running[trial] += 1
        self.search.on_trial_result(trial, {"loss": value, "training_iteration": self.running[trial]})

    @precondition(lambda self: self.running)
    @rule(data=st.data(), value=st.none() | st.floats(-1e3, 1e3), error=st.booleans())
    def end(self, data, value, error):
        trial = data.draw(st.sampled_from(sorted(self.running)))
        epoch = self.running.pop(trial) + 1
        result = None if value is None else {"loss": value, "training_iteration": epoch}
        self.search.on_trial_complete(trial, result, error=error)
        assert {k for k, t in self.search.history.trials.items() if t.state == "running"} == set(self.running)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def pause_and_resume(self, data):
        paused = data.draw(st.lists(st.sampled_from(sorted(self.running)), min_size=1, unique=True))
        for trial in paused:
            self.search.on_pause(trial)
        assert self.search.next_trial("never", paused, begin=False) in paused
        for trial in paused:
            self.search.on_unpause(trial)

    @rule()
    def save_and_restore(self):
        state = json.loads(json.dumps(self.search.get_state()))
        again = BayesOptSearch(self.SPACE)
        again.set_state(state)
        probe = BayesOptSearch(self.SPACE)
        probe.set_state(state)
        assert probe.suggest("probe") == again.suggest("probe")
        again.set_state(state)
        self.search = again


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_drawn_hyperparameters_make_a_mixture_and_are_kept_in_the_state(monkeypatch):
    draws = [Hyperparameters(np.array([w]), 1.0, 1e-4) for w in (0.1, 0.5)]
    calls = []
    monkeypatch.setattr(
        "searchers.bayesopt.surrogate.sample_hyperparameters", lambda *a, **k: calls.append(a) or draws
    )
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", surrogate="nuts")
    for x in (0.0, 0.3, 0.5, 1.0):
        search.add_evaluated_point({"x": x}, (x - 0.4) ** 2)
    again = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min")
    search.suggest("0")
    again.set_state(search.get_state())
    drawn = len(calls)
    assert again.suggest("1") == search.suggest("1") and len(calls) == drawn
    y = np.array([x.value for x in search.observations()])
    X = np.array([[x.config["x"]] for x in search.observations()])
    members = [
        GaussianProcess(X, (y - y.mean()) / y.std(), np.zeros(4), h, np.zeros(1, int)).posterior(
            np.array([[0.7]])
        )[0]
        for h in draws
    ]
    mean, _ = search.posterior([{"x": 0.7}])
    assert mean[0] == pytest.approx(y.mean() + y.std() * np.mean(members))


def test_two_objectives_give_a_front_of_both():
    search = BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", objectives={"score": "max"}, seed=1)
    assert search.pareto_front() == []
    for i in range(20):
        x = search.suggest(str(i))["x"]
        result = {"loss": (x - 0.2) ** 2, "score": 5 - (x - 0.6) ** 2, "training_iteration": 1}
        search.on_trial_complete(str(i), result)
    front = search.pareto_front()
    x = np.sort([o.config["x"] for o in front])
    assert len(x) >= 8 and x[0] < 0.25 and x[-1] > 0.55  # the true front is all of [0.2, 0.6]
    assert ((x > 0.17) & (x < 0.63)).all()
    values = np.array([[o.value, -o.others[0]] for o in search.observations()])
    for o in front:
        beaten = (values <= [o.value, -o.others[0]]).all(1) & (values < [o.value, -o.others[0]]).any(1)
        assert not beaten.any()
    mean, _ = search.posterior([{"x": 0.2}])
    assert mean[0] == pytest.approx(0.0, abs=0.02)  # of the metric, in its own units
    better = {1: {"loss": -1.0, "score": 9.0}}
    search.learn(TrialRecord("other-id/a", 1, {"x": 0.5}, better, "finished"))
    assert search.pareto_front() == front  # of this sweep's own trials
    with pytest.raises(ValueError, match="score is 'up'"):
        BayesOptSearch({"x": tune.uniform(0, 1)}, "loss", "min", objectives={"score": "up"})


def test_what_is_told_of_the_metric_is_not_of_the_last_weighing_of_several():
    """Its hyperparameters are its own: those of a search for it alone, though as many rows are known."""
    x = np.random.default_rng(3).uniform(0, 1, 25)
    space, both, alone = {"x": tune.uniform(0, 1)}, {"score": "max"}, {}
    searches = [BayesOptSearch(space, "loss", "min", objectives=o, seed=2) for o in (both, alone)]
    for i, at in enumerate(x):
        result = {"loss": 50 + 10 * (at - 0.3) ** 2, "score": math.sin(60 * at), "training_iteration": 1}
        for search in searches:
            search.history.start(str(i), {"x": float(at)})
            search.on_trial_complete(str(i), dict(result))
    searches[0].suggest("next")  # fits the hyperparameters to a weighing of both
    where = [{"x": u} for u in (0.05, 0.3, 0.5, 0.77)]
    (mean, std), (expected, expected_std) = (search.posterior(where) for search in searches)
    np.testing.assert_allclose(mean, expected, atol=0.02)
    np.testing.assert_allclose(std, expected_std, atol=0.02)
    assert searches[0].best()[1] == pytest.approx(50.0, abs=0.05)


def test_in_a_discrete_space_nothing_is_proposed_twice_however_far_trials_were_trained():
    search = BayesOptSearch({"a": tune.randint(0, 8)}, "loss", "min")
    for i in range(8):
        before = points(search)
        config = search.suggest(str(i))
        assert not i or not contains(before, np.array([search.space.unit(config)])).any()
        search.on_trial_complete(str(i), {"loss": config["a"], "training_iteration": 3 if i == 0 else 1})


class Diverging(VAE):
    """A real one, whose weights are broken in its second epoch where β is large."""

    def step(self):
        if self.epoch == 1 and self.model.config.beta > 2:
            with torch.no_grad():
                self.model.encoder.mean.weight.fill_(math.nan)
        return super().step()


def fid_of(config):
    return 125 + (config["beta"] - 75) ** 2 / 300


def trainable(config):
    for epoch in range(1, 5):
        tune.report({"fid": fid_of(config) + 8 / epoch, "epoch": epoch})


@pytest.fixture(scope="module")
def running_ray():
    with embedded_ray(num_cpus=2):
        yield


@pytest.mark.slow
def test_what_a_tuner_saved_is_restored_without_its_space_given_again(running_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
    space = {"beta": tune.uniform(1, 150), "kind": tune.choice(["a", "b"])}
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="fid", mode="min", search_alg=BayesOptSearch(seed=3), num_samples=2
        ),
        run_config=tune.RunConfig(name="sweep", storage_path=str(tmp_path), verbose=0),
    )
    tuner.fit()
    search = BayesOptSearch()
    search.restore_from_dir(str(tmp_path / "sweep"))
    assert search.suggest("next").keys() == {"beta", "kind"}


@pytest.mark.slow
def test_sweep_in_tune_under_asha_and_its_searcher_restored(running_ray, tmp_path, monkeypatch):
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


@pytest.mark.parametrize("early_stopping", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_sweep_by_another_score_than_the_trainables_outlives_a_trial_that_diverges(
    running_ray, tmp_path, monkeypatch, early_stopping
):
    """As sweeps are started, where a missing metric would end all of them by Tune's TuneError."""
    monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "0")
    ray_patches.apply()
    arguments = tune_settings(1, 0)
    objectives = {} if early_stopping else {"fd_random": "min"}
    search = BayesOptSearch(points_to_evaluate=[{"beta": 1.0}, {"beta": 3.0}], objectives=objectives)
    analysis = tune.run(
        Diverging,
        **arguments,
        config={**SMALL_FACES, "cache_dir": str(tmp_path / "cache"), "beta": tune.uniform(1, 4)},
        metric="elbo",
        mode="max",
        storage_path=str(tmp_path),
        search_alg=search,
        scheduler=AsyncHyperBandScheduler(max_t=2, grace_period=2) if early_stopping else None,
        stop={"training_iteration": 2},
        num_samples=2,
    )
    assert [trial.status for trial in analysis.trials] == ["TERMINATED"] * 2
    assert "elbo" not in analysis.trials[1].last_result and analysis.trials[1].last_result["diverged"]
    assert [t.state for t in search.history.trials.values()] == [ENDED, FAILED]
