"""What partial training teaches: the warp, the rows, and predictions of final values in the metric's
units."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from searchers.bayesopt import fidelity
from searchers.bayesopt.fidelity import Warp, fit_curves, learns_from_training, milestones
from searchers.bayesopt.history import History
from searchers.bayesopt.space import Choice, Integer, Real, Space

SPACE = Space([Real("x", 0.0, 1.0), Choice("kind", ("a", "b"))])
FINAL = 16
MINIMIZED = np.ones(1)
STOPS = [16, 1, 4, 16, 2, 1, 16, 4, 2, 1, 16, 4, 1, 2, 16, 1]


def curve(x, kind, epoch):
    """A parabola that is reached as 1/epoch, more slowly where x is large."""
    return (x - 0.4) ** 2 + 0.3 * kind + (0.5 + x) / epoch


def history_of(stops=STOPS, space=SPACE, sign=1.0, errors=None):
    """Trials at points spread over the space, each halted after so many epochs; and their true finals."""
    rng = np.random.default_rng(0)
    history, finals = History(), []
    for i, last in enumerate(stops):
        x, kind = float(rng.uniform()), int(rng.integers(2))
        history.start(str(i), {"x": x, "kind": kind})
        for epoch in range(1, last + 1):
            history.report(str(i), epoch, [sign * curve(x, kind, epoch)], errors)
        history.end(str(i), failed=False)
        finals.append(curve(x, kind, FINAL))
    return history, np.array(finals)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_warp_keeps_the_order_and_its_inverse_undoes_it(values):
    y = np.array(values)
    warp = Warp(y)
    z = warp(y)
    order = np.argsort(y, kind="stable")
    assert (np.diff(z[order]) >= -1e-12).all() and np.isfinite(z).all()
    np.testing.assert_allclose(warp.inverse(z), y, rtol=1e-6, atol=1e-6 * (1 + np.ptp(y)))
    if len(set(values)) > 1:
        assert np.diff(np.sort(z)).max() > 0


def test_the_warp_is_half_value_and_half_normal_score():
    y = np.array([3.0, 1.0, 2.0, 5.0])
    value = (y - y.mean()) / y.std()
    z = 0.5 * value + 0.5 * ndtri((np.array([3, 1, 2, 4]) - 0.5) / 4)
    np.testing.assert_allclose(Warp(y)(y), (z - z.mean()) / z.std())


def test_one_value_out_of_all_proportion_leaves_the_others_their_scale():
    y = np.append(np.linspace(1, 2, 20), 1e9)
    z = Warp(y)(y)
    assert np.ptp(z[:20]) > 2 and z[20] < z[19] + 6


def test_beyond_the_known_values_the_warp_goes_on():
    warp = Warp(np.linspace(0, 1, 21))
    below, above = warp(np.array([-0.1, 1.1]))
    assert below < warp(np.array([0.0]))[0] and above > warp(np.array([1.0]))[0]
    np.testing.assert_allclose(warp.inverse(np.array([below, above])), [-0.1, 1.1])


def test_equal_values_and_a_single_one():
    assert Warp(np.full(5, 0.1))(np.array([0.1])).tolist() == [0.0]
    assert Warp(np.array([2.0])).inverse(np.zeros(1)).tolist() == [2.0]


def test_when_curves_are_learned_from():
    assert learns_from_training(history_of()[0])
    assert not learns_from_training(history_of([1, 1, 1])[0]) and not learns_from_training(History())


def test_rows_are_kept_at_the_epochs_where_trials_were_halted():
    history, _ = history_of()
    assert milestones(history, FINAL) == {1, 2, 4, 16}
    ladder, _ = history_of([2, 2, 16])
    assert milestones(ladder, FINAL) == {2, 6, 16}
    whole, _ = history_of([16, 16])
    assert milestones(whole, FINAL) == {16, 5, 2, 1}  # nothing was halted: by thirds
    for number, epoch in enumerate((3, 4, 5, 7, 9, 11, 13)):
        ladder.start(f"bad-{number}", {"x": 0.5, "kind": 0})
        ladder.report(f"bad-{number}", epoch, [math.nan], None)
        ladder.end(f"bad-{number}", failed=True)
    assert milestones(ladder, FINAL) == {2, 6, 16}
    anywhere, _ = history_of([3, 5, 7, 8, 9, 10, 11, 16])
    assert milestones(anywhere, FINAL) == {16, 5, 2, 1}


def test_finals_are_foretold_better_than_by_the_last_value():
    history, finals = history_of()
    model, _ = fit_curves(SPACE, history, MINIMIZED)
    trials, said = model.finals()
    mean, std = said.mean, said.std
    stopped = np.array(STOPS) < FINAL
    last = np.array([t.last[0] for t in trials])
    error = np.abs(mean - finals)[stopped]
    assert np.median(error) < 0.2 * np.median(np.abs(last - finals)[stopped])
    assert (error < 3 * std[stopped] + 0.02).mean() > 0.8
    assert np.median(std[~stopped]) < 0.3 * np.median(std[stopped])
    np.testing.assert_allclose(mean[~stopped], finals[~stopped], atol=0.05)


def test_a_maximized_metric_is_the_same_with_its_sign():
    low, _ = fit_curves(SPACE, history_of()[0], MINIMIZED)
    high, _ = fit_curves(SPACE, history_of(sign=-1.0)[0], -MINIMIZED)
    for a, b in zip(vars(low.predict(low.U)).values(), vars(high.predict(high.U)).values(), strict=True):
        np.testing.assert_allclose(a, b)


def test_the_end_of_training_may_be_known_before_a_trial_reaches_it():
    history, _ = history_of([4, 4, 2, 4, 1, 4, 2, 4, 1])
    model, _ = fit_curves(SPACE, history, MINIMIZED, max_epochs=FINAL)
    assert model.process.s.max() == pytest.approx(math.log(4) / math.log(16))
    assert model.finals()[1].std.min() > 0.05  # nobody has been there
    short, _ = fit_curves(SPACE, history, MINIMIZED)
    assert short.process.s.max() == 1.0 and short.finals()[1].std.min() < 0.05


@pytest.mark.parametrize("best", [0, 3, 11])
def test_of_too_many_rows_the_best_and_each_trials_last_are_kept(monkeypatch, best):
    monkeypatch.setattr(fidelity, "CONDITIONING_ROWS", 24)
    history = History()
    for i in range(12):
        history.start(str(i), {"x": i / 12, "kind": 0})
        for epoch in (1, 2, 16):
            history.report(str(i), epoch, [(i != best) * 1.0 + 1 / epoch + 0.01 * i], None)
        history.end(str(i), failed=False)
    process = fit_curves(SPACE, history, MINIMIZED)[0].process
    assert len(process.run) == 24 and (np.diff(process.run) >= 0).all()
    assert set(process.run[process.s == 1.0]) == set(range(12))
    assert (process.run == best).sum() == (process.run == 11).sum() == 3  # the best one, and the latest


def test_progress_is_counted_from_the_first_epoch_that_is_reported():
    history = History()
    for i in range(4):
        history.start(str(i), {"x": 0.2 * i, "kind": 0})
        for step in (1000, 10000, 100000)[: i + 1]:
            history.report(str(i), step, [1.0 / step + i], None)
        history.end(str(i), failed=False)
    model, _ = fit_curves(SPACE, history, MINIMIZED)
    assert sorted(set(np.round(model.process.s, 9))) == [0.0, 0.5, 1.0]


def test_measured_noise_of_a_row_makes_the_model_less_sure():
    sure, _ = fit_curves(SPACE, history_of()[0], MINIMIZED)
    told, _ = fit_curves(SPACE, history_of(errors=[0.3])[0], MINIMIZED)
    floor, _ = fit_curves(SPACE, history_of()[0], MINIMIZED, floor=[0.3])
    np.testing.assert_array_equal(told.process.noise, floor.process.noise)
    assert (told.process.noise > 0).all() and not sure.process.noise.any()
    assert told.finals()[1].std.mean() > 1.5 * sure.finals()[1].std.mean()


def test_failed_trials_are_worse_than_all_others_and_pending_ones_are_named():
    history, _ = history_of()
    history.start("bad", {"x": 0.41, "kind": 0})
    history.report("bad", 1, [0.0], None)
    history.end("bad", failed=True)
    history.start("runs", {"x": 0.5, "kind": 1})
    history.start("waits", {"x": 0.6, "kind": 1})
    history.report("waits", 1, [1.0], None)
    history.pause("waits")
    model, _ = fit_curves(SPACE, history, MINIMIZED)
    rows = model.process.run == 16
    assert model.process.y[rows][-1] == model.process.y.max() > model.process.y[rows][0]
    assert model.process.s[rows].tolist() == [
        0.0,
        0.25,
    ]  # of 16 epochs the second is a quarter, by logarithms
    assert history.trials["bad"] not in model.trials and history.trials["waits"] in model.trials
    assert model.pending_runs.tolist() == [17] and model.pending[0, 0] == 0.5


def test_luck_and_noise_widen_the_band_of_one_run():
    history, _ = history_of()
    model, _ = fit_curves(SPACE, history, MINIMIZED)
    said = model.predict(model.U)
    (low, high), (run_low, run_high) = said.band, said.band_of_run
    assert (run_low < low).all() and (low < said.mean).all()
    assert (said.mean < high).all() and (high < run_high).all()
    z, variance = model.process.posterior(model.U)
    np.testing.assert_allclose(model.warp(said.mean), z, atol=1e-6)
    std = np.sqrt(variance - model.process.hyper.luck)
    np.testing.assert_allclose(low, model.warp.inverse(z - 2 * std))
    width = model.warp.inverse(z + std) - model.warp.inverse(z - std)
    np.testing.assert_allclose(said.std, width / 2)


def test_expected_improvement_is_the_mean_over_draws_in_the_metrics_units():
    history, _ = history_of()
    model, _ = fit_curves(SPACE, history, MINIMIZED)
    U = np.array([[0.35, 0.25], [0.7, 0.75], [0.1, 0.25]])
    mean, variance = model.process.posterior(U)
    drawn = mean + np.sqrt(variance) * np.random.default_rng(0).standard_normal((200_000, 3))
    best = model.warp.inverse(model.of_trials()[0].min())
    expected = np.maximum(best - model.warp.inverse(drawn), 0).mean(axis=0)
    np.testing.assert_allclose(model.expected_improvement(U), expected, rtol=0.05, atol=1e-4)


def test_the_difference_of_two_trials():
    model, _ = fit_curves(SPACE, history_of()[0], MINIMIZED)
    mean, std = model.difference(1, 3)
    z, variance = model.of_trials()
    assert mean == pytest.approx(z[1] - z[3]) and 0 < std < math.sqrt(variance[1] + variance[3]) + 1e-9


def test_hyperparameters_are_learned_anew_only_once_there_is_more_and_restored_exactly():
    history, _ = history_of()
    model, state = fit_curves(SPACE, history, MINIMIZED)
    again, same = fit_curves(SPACE, history, MINIMIZED, last_fit=json.loads(json.dumps(state)))
    assert same == state
    np.testing.assert_array_equal(again.predict(model.U).mean, model.predict(model.U).mean)
    more, _ = history_of(STOPS * 2)
    assert fit_curves(SPACE, more, MINIMIZED, last_fit=state)[1]["rows"] > state["rows"]


def test_two_objectives_become_one_by_weights_and_without_them_the_first_counts():
    history = History()
    for i, x in enumerate(np.linspace(0, 1, 12)):
        history.start(str(i), {"x": float(x), "kind": 0})
        for epoch in (1, 2, 4):
            history.report(
                str(i), epoch, [(x - 0.2) ** 2 + 1 / epoch, (x - 0.8) ** 2 + 1 / epoch], [0.1, 0.1]
            )
        history.end(str(i), failed=False)
    best = {}
    for name, weights in (("first", None), ("one", np.array([1.0, 0.0])), ("two", np.array([0.0, 1.0]))):
        model, _ = fit_curves(SPACE, history, np.ones(2), weights=weights)
        best[name] = model.U[int(np.argmin(model.of_trials()[0])), 0]
        assert (model.process.noise > 0).all()
    assert best["first"] < 0.4 and best["one"] < 0.4 and best["two"] > 0.6


def test_whole_integer_and_logarithmic_dimensions_and_known_values():
    space = Space([Real("rate", 1e-4, 1e-1, log=True), Integer("units", 2, 9)])
    history = History()
    for i, (rate, units) in enumerate([(1e-3, 3), (1e-2, 5), (1e-4, 9), (3e-3, 4)]):
        history.start(str(i), {"rate": rate, "units": units})
        for epoch in (1, 2):
            history.report(str(i), epoch, [abs(math.log10(rate) + 3) + units / 10 + 1 / epoch], None)
        history.end(str(i), failed=False)
    history.start("known", {"rate": 1e-3, "units": 2})
    history.report("known", 0, [0.1], None)
    history.end("known", failed=False)
    model, _ = fit_curves(space, history, MINIMIZED)
    assert model.process.s[-1] == 1.0 and len(model.trials) == 5
    assert model.U[0, 0] == pytest.approx(1 / 3)
    assert int(np.argmin(model.of_trials()[0])) == 4
    assert fit_curves(space, History(), MINIMIZED) == (None, None)
