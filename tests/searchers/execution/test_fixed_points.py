"""Files of settings to train: what can't be trained is refused before anything begins."""

import json
from dataclasses import replace

import pytest
from ray import tune

from searchers.bayesopt.space import Choice, Integer, Real, Space
from searchers.execution.fixed_points import FixedPoints, check_points
from searchers.execution.search import given_points
from searchers.record.trials import TrialRecord
from searchers.study.config import SweepConfig, UsageError
from searchers.study.given import listed_points
from searchers.study.study import Study

SPACE = Space([Real("beta", 1.0, 150.0), Integer("layers", 1, 4), Choice("model", ("VAE", "GAN"))])
SETTINGS = {
    "seed": 0,
    "image_size": 16,
    "learning_rate": 1e-3,
    "compile": False,
    "weights": None,
    "epoch_steps": None,
}


WHOLE = {"beta": 2.0, "layers": 2, "model": "VAE"}


def read(tmp_path, content):
    path = tmp_path / "points.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    points = listed_points(path)
    check_points(points, str(path), SPACE, SETTINGS)
    return points


def test_a_list_of_settings_is_returned_as_it_is(tmp_path):
    points = [
        {**WHOLE, "beta": 76, "seed": 1},
        {**WHOLE, "model": "GAN", "learning_rate": 1, "weights": "file"},
    ]
    assert read(tmp_path, points) == read(tmp_path, {"of": "id", "points": points}) == points


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"beta": "76.3"}, "beta = '76.3' is not a number"),
        ({"beta": None}, "beta = None is not a number"),
        ({"beta": float("nan")}, "beta = nan lies outside"),
        ({"beta": 1e30}, r"beta = 1e\+30 lies outside \[1.0, 150.0\]"),
        ({"beta": True}, "beta = True is not a number"),
        ({"beta": [1.0]}, r"beta = \[1.0\] is not a number"),
        ({"layers": "2"}, "layers = '2' is not a number"),
        ({"model": "WGAN"}, "model = 'WGAN' is none of"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, second, reason):
    with pytest.raises(ValueError, match=rf"entry 2 of .*points.json: {reason}"):
        read(tmp_path, [WHOLE, {**WHOLE, **second}])


def test_an_entry_without_a_place_in_the_space_is_named(tmp_path):
    """Its trial would have the range itself for a value."""
    with pytest.raises(
        ValueError, match=r"entry 2 of .*points.json has no layers, which other entries give: all do or none"
    ):
        read(tmp_path, [WHOLE, {"beta": 2.0, "model": "GAN"}])
    with pytest.raises(ValueError, match=r"entry 1 of .*points.json has no beta, which this sweep searches"):
        read(tmp_path, [{"seed": 2}])


@pytest.mark.parametrize("content", ["", "[", "[" * 100_000, "[]", "{}", "3", "[3]", "[{}]", '{"points": 3}'])
def test_no_list_of_settings_is_told(tmp_path, content):
    with pytest.raises(ValueError, match=r"points.json (is no JSON|holds no list of settings)"):
        read(tmp_path, content)


def test_entries_that_python_gives_are_checked_as_a_file_s_are():
    check_points([WHOLE], "the study's points", SPACE, SETTINGS)
    with pytest.raises(ValueError, match=r"entry 1 of the study's points: layers = 9 lies outside"):
        check_points([{**WHOLE, "layers": 9}], "the study's points", SPACE, SETTINGS)


def test_an_unknown_setting_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"sets 'bta' \(did you mean beta\?\); it can set .*beta"):
        read(tmp_path, [{**WHOLE, "bta": 2.0}])


def test_a_file_of_points_may_leave_open_what_the_study_searches_but_not_what_was_asked_for(tmp_path):
    (file := tmp_path / "points.json").write_text('[{"beta": 2.0}]')
    of = Study(None, {"beta": tune.uniform(1, 9), "penalty": tune.loguniform(0.1, 1)}, {"seed": 0}, "fid")
    config = SweepConfig(points=str(file), dataset="faces")
    assert given_points(of, config) == [{"beta": 2.0}]
    with pytest.raises(UsageError, match="has no penalty, which this sweep searches"):
        given_points(of, replace(config, space=("penalty=uniform(0.1,1)",)))
    file.write_text('[{"beta": 2.0, "penalti": 0.5}]')
    with pytest.raises(
        UsageError, match=r"sets 'penalti' \(did you mean penalty\?\); it can set beta, penalty"
    ):
        given_points(of, config)


@pytest.mark.parametrize("name", ["image_size", "epoch_steps"])
def test_what_all_trials_share_is_no_setting_of_one(tmp_path, name):
    with pytest.raises(ValueError, match=rf"sets '{name}'; it can set .*beta"):
        read(tmp_path, [{**WHOLE, name: 30}])


def test_settings_that_were_begun_in_any_order_are_not_begun_again():
    """The second was suggested to a worker that never began it."""
    points = [{"beta": 1.0}, {"beta": 2.0}, {"beta": 1.0}, {"beta": 3.0}]
    searcher = FixedPoints(points, "fid", "min")
    searcher.replay(
        [TrialRecord("a", 1, {"beta": 1.0, "seed": 0}), TrialRecord("b", 2, {"beta": 3.0, "seed": 0})]
    )
    assert [searcher.suggest(name) for name in "cd"] == [{"beta": 2.0}, {"beta": 1.0}]
    assert searcher.suggest("e") == FixedPoints.FINISHED
    assert len(points) == 4


def test_settings_that_json_changes_are_known_again():
    points = [{"sizes": (1, 2)}, {"sizes": (3, (4,))}, {"sizes": [1, 2]}]
    searcher = FixedPoints(points, "fid", "min")
    searcher.replay([TrialRecord("a", 1, {"sizes": [3, [4]], "seed": 0})])
    assert [searcher.suggest(name) for name in "bc"] == [{"sizes": (1, 2)}, {"sizes": [1, 2]}]
