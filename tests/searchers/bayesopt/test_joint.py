"""Finals of stopped trials, foretold by a Gaussian process over configuration and epoch."""

import numpy as np

from searchers.bayesopt.history import WHOLE, History, last_value
from searchers.bayesopt.joint import joint
from searchers.bayesopt.space import Choice, Real, Space

FINAL = 16
MINIMISED = np.ones(1)
SPACE = Space([Real("x", 0.0, 1.0), Choice("kind", ("a", "b"))])


def curve(x: float, kind: int, epoch: int) -> float:
    """A parabola that is reached as 1/epoch, more slowly where x is large."""
    return (x - 0.4) ** 2 + 0.3 * kind + (0.5 + x) / epoch


def history_of(stops: list[int]) -> tuple[History, np.ndarray]:
    """Trials at points spread over the space, each stopped after so many epochs; and their true finals."""
    rng = np.random.default_rng(0)
    history, finals = History(), []
    for i, last in enumerate(stops):
        x, kind = float(rng.uniform()), int(rng.integers(2))
        history.start(str(i), {"x": x, "kind": kind})
        for epoch in range(1, last + 1):
            history.report(str(i), epoch, [curve(x, kind, epoch)], None)
        history.end(str(i), failed=False)
        finals.append(curve(x, kind, FINAL))
    return history, np.array(finals)


STOPS = [16, 1, 4, 16, 2, 1, 16, 4, 2, 1, 16, 4, 1, 2, 16, 1]


def test_finals_are_foretold_better_than_by_the_last_value():
    history, finals = history_of(STOPS)
    stopped = np.array(STOPS) < FINAL
    foretold, last = joint(SPACE, history, MINIMISED), last_value(history)
    error = {
        name: np.abs(rows.values[:, 0] - finals)[stopped]
        for name, rows in (("joint", foretold), ("last", last))
    }
    assert np.median(error["joint"]) < 0.2 * np.median(error["last"])
    assert (foretold.variances[stopped, 0] > 0).all()
    # Three standard deviations hold what comes.
    assert (error["joint"] < 3 * np.sqrt(foretold.variances[stopped, 0]) + 0.02).mean() > 0.8


def test_what_was_trained_to_its_end_or_comes_from_elsewhere_stands():
    history, _ = history_of(STOPS)
    history.start("known", {"x": 0.5, "kind": 0})
    history.report("known", WHOLE, [0.25], [0.1])
    history.end("known", failed=False)
    rows, last = joint(SPACE, history, MINIMISED), last_value(history)
    whole = np.array([trial.epoch in (FINAL, WHOLE) for trial in rows.trials])
    np.testing.assert_array_equal(rows.values[whole], last.values[whole])
    np.testing.assert_array_equal(rows.variances[whole], last.variances[whole])


def test_without_a_stopped_trial_it_is_the_last_value():
    history, finals = history_of([FINAL] * 4)
    np.testing.assert_array_equal(joint(SPACE, history, MINIMISED).values[:, 0], finals)
    assert len(joint(SPACE, History(), MINIMISED)) == 0


def test_noise_makes_it_less_sure():
    history, _ = history_of(STOPS)
    stopped = np.array(STOPS) < FINAL
    sure, unsure = (joint(SPACE, history, MINIMISED, floor).variances[stopped, 0] for floor in (None, [0.3]))
    assert (unsure > sure).all()


def test_of_a_score_that_is_maximised_the_same_is_foretold_with_its_sign():
    """One trial is so good that it would be tamed as a bad one, one so bad that it must be."""
    history, _ = history_of(STOPS)
    for trial, far in (("3", -9.0), ("8", 900.0)):
        rows = history.trials[trial].rows
        history.trials[trial].rows = {epoch: [value + far] for epoch, (value,) in rows.items()}
    turned = History.from_json(history.to_json())
    for trial in turned.trials.values():
        trial.rows = {epoch: [-value for value in row] for epoch, row in trial.rows.items()}
    rows, other = joint(SPACE, history, MINIMISED), joint(SPACE, turned, -MINIMISED)
    np.testing.assert_allclose(other.values, -rows.values)
    np.testing.assert_allclose(other.variances, rows.variances)


def test_the_order_of_trials_does_not_matter():
    history, _ = history_of(STOPS)
    turned = History()
    turned.trials = dict(reversed(history.trials.items()))
    rows, other = joint(SPACE, history, MINIMISED), joint(SPACE, turned, MINIMISED)
    assert rows.trials == other.trials[::-1]
    np.testing.assert_allclose(rows.values, other.values[::-1], atol=1e-4)
