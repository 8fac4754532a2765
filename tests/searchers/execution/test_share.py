"""Sweeps of one study that learn from each other while they run."""

import json
import math
import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray import tune

from cluster.storage import opened
from searchers.bayesopt.history import ENDED, FAILED, RUNNING
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.bayesopt.space import SpaceError
from searchers.execution.search import given_points, make_search
from searchers.execution.share import Share, described, difference
from searchers.record.ledger import Ledger
from searchers.record.schema import HEARD, HEARD_TAG, NOTE
from searchers.study.config import SweepConfig, UsageError
from searchers.study.study import Study
from trainables import BetaVAEGAN

SPACE = {"beta": tune.uniform(1, 150), "latent_dim": tune.randint(2, 65)}
SETTINGS = {"dataset": "/here/faces", "data_hash": "abc", "image_size": 32, "epochs": 9, "seed": 0}
STUDY = Study(BetaVAEGAN, SPACE, SETTINGS, metric="fid")
FIRST = {"beta": 1.0, "latent_dim": 8}
# What a sweep does, event by event: three trials, of which the last one is not trained fully.
STORY = [
    *(("trial", trial, {"beta": 10.0 * k, "latent_dim": 8 * k}) for k, trial in enumerate("abc", 1)),
    *(("result", trial, epoch) for epoch in (1, 2, 3) for trial in "abc"),
    ("end", "a", "finished"),
    ("end", "b", "failed"),
]


def write(ledger, event):
    kind, trial, value = event
    if kind == "trial":
        ledger.append("trial", trial=trial, number="abc".index(trial) + 1, config={**SETTINGS, **value})
    elif kind == "result":
        metrics = {"fid": score(trial, value), "fid_std": 0.5, "kl": 1.0}
        ledger.append("result", trial=trial, epoch=value, metrics=metrics, images={}, node="x", flags="")
    else:
        ledger.append("end", trial=trial, status=value, error=None)


def score(trial, epoch):
    return 10.0 * ord(trial) - epoch


class Sweep:
    """A sweep as far as sharing goes: its ledger, its searcher, and what it was told to say."""

    def __init__(self, folder, name, study=STUDY):
        self.folder, self.name, self.study, self.said = folder, name, study, []
        self.ledger = Ledger(folder / name / "ledger.jsonl")
        self.begin()

    def begin(self):
        metric = self.study.metric
        self.search = BayesOptSearch(self.study.space, metric, "min", noise_key=f"{metric}_std")
        first = {name: FIRST[name] for name in self.study.space}
        place = opened(str(self.folder / "place"))
        ledger, say = self.ledger, self.said.append
        self.share = Share(place, f"{self.name}-id", self.study, first, self.search, ledger, say)

    def step(self):
        self.share.post.look()
        self.share.on_step_begin(0, [])

    @property
    def file(self):
        return self.folder / "place" / f"{self.name}-id.jsonl"

    @property
    def learned(self):
        return {name: (trial.state, trial.rows) for name, trial in self.search.history.trials.items()}

    def heard(self):
        """Count what the ledger holds of others: each row, and each end."""
        found = Counter()
        for _, event in self.ledger.events():
            for told in event["trials"] if event["event"] == HEARD else ():
                found.update((event["sweep"], told["trial"], epoch) for epoch in told["metrics"])
                found.update([(event["sweep"], told["trial"], told["status"])] if told["status"] else [])
        return found


def rows(trial):
    return {epoch: [score(trial, epoch)] for epoch in (1, 2, 3)}


@pytest.fixture
def pair(tmp_path):
    one, two = Sweep(tmp_path, "one"), Sweep(tmp_path, "two")
    for event in STORY:
        write(one.ledger, event)
    one.step()
    two.step()
    return one, two


def test_trials_arrive_with_their_rows_and_their_ends(pair):
    one, two = pair
    assert two.learned == {
        "one-id/a": (ENDED, rows("a")),
        "one-id/b": (ENDED, rows("b")),  # it failed on another cluster: its rows are true
        "one-id/c": (RUNNING, rows("c")),
    }
    assert two.search.history.trials["one-id/a"].errors[3] == [0.5]
    assert two.search.suggested == 0 and two.search.best_trial() == "one-id/a"
    one.step()
    assert one.learned == {}


def test_what_is_said_and_recorded(pair):
    _, two = pair
    place = two.folder / "place"
    assert two.said == [f"Learns from one in {place}, which has begun 3 trials."]
    assert two.share.words() == ["Learned from 3 trials of one, whose best is trial 1 with fid 967."]
    two.share.note()
    (note,) = [event for _, event in two.ledger.events() if event["event"] == NOTE]
    assert json.loads(note["tags"][HEARD_TAG]) == {"one": 3}
    assert list(two.ledger.trials()) == []


def test_a_resumed_sweep_knows_the_same_where_the_other_is_gone(pair):
    one, two = pair
    before = two.learned
    one.file.unlink()
    two.begin()
    two.step()
    assert two.learned == before
    one.step()  # it writes its file again
    two.step()
    assert two.learned == before and set(two.heard().values()) == {1}


def test_a_place_that_is_away_is_told_once_and_holds_up_nothing(pair):
    one, two = pair
    place = two.folder / "place"
    place.rename(two.folder / "away")
    write(one.ledger, ("result", "c", 4))
    for _ in range(2):
        one.step()
        two.step()
    assert len(two.said) == 2 and "can't be reached" in two.said[1] and "goes on alone" in two.said[1]
    (two.folder / "away").rename(place)
    one.step()
    two.step()
    assert two.said[2:] == [f"{place} is there again."] and 4 in two.learned["one-id/c"][1]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"settings": {**SETTINGS, "epochs": 3}}, "its epochs is 3, this sweep's 9"),
        ({"settings": {**SETTINGS, "data_hash": "other"}}, "its data_hash is other, this sweep's abc"),
        ({"settings": {**SETTINGS, "scores_hash": "old"}}, "its scores_hash is old, this sweep's None"),
        ({"settings": {**SETTINGS, "gamma": 7.0}}, r"its gamma is 7.0, this sweep's [\d.]+"),
        ({"metric": "kid"}, "its metric is kid, this sweep's fid"),
        ({"mode": "max"}, "its mode is max, this sweep's min"),
        ({"objectives": {"kl": "min"}}, "its objectives is .*kl"),
    ],
)
def test_sweeps_whose_scores_differ_do_not_learn_from_each_other(tmp_path, other, said):
    one, two = Sweep(tmp_path, "one", replace(STUDY, **other)), Sweep(tmp_path, "two")
    write(one.ledger, STORY[0])
    one.step()
    two.step()
    two.step()
    assert two.learned == {} and two.heard() == {}
    assert len(two.said) == 1
    assert re.search(f"^one in .*/place is not learned from: {said}", two.said[0])


def test_places_and_seeds_may_differ(tmp_path):
    there = replace(STUDY, settings={**SETTINGS, "dataset": "/there/faces", "data_root": "/d", "seed": 4})
    one, two = Sweep(tmp_path, "one", there), Sweep(tmp_path, "two")
    write(one.ledger, STORY[0])
    one.step()
    two.step()
    assert list(two.learned) == ["one-id/a"]


def test_of_what_one_searches_and_the_other_holds_equal_values_count(tmp_path):
    held = {**SETTINGS, "latent_dim": 16}
    narrow = replace(STUDY, space={"beta": tune.uniform(1, 25)}, settings=held)
    wide, one = Sweep(tmp_path, "wide"), Sweep(tmp_path, "narrow", narrow)
    for event in STORY[:3]:
        write(wide.ledger, event)
    one.ledger.append("trial", trial="n", number=1, config={**SETTINGS, "beta": 5.0})  # as by default
    one.step()
    wide.step()
    one.step()
    assert list(one.learned) == ["wide-id/b"]  # latent_dim 16, and 30 lies outside of 1 … 25
    assert len(one.said) == 2 and one.said[1].startswith("Trial a of wide is left out, as are others like it")
    assert wide.search.history.trials["narrow-id/n"].codes == {"beta": 5.0, "latent_dim": 16}


def test_first_points_that_another_sweep_has_begun_are_not_begun_again(tmp_path):
    two = Sweep(tmp_path, "two")
    points = [{"beta": 10.0, "latent_dim": 8}, {"beta": 99.0, "latent_dim": 9}]
    two.search = two.share.search = BayesOptSearch(SPACE, "fid", "min", points_to_evaluate=points)
    one = Sweep(tmp_path, "one")
    write(one.ledger, STORY[0])
    one.step()
    two.step()
    assert two.search.suggest("mine")["beta"] == 99.0


@pytest.mark.parametrize("share", [True, False])
def test_sweeps_that_share_begin_with_different_points_and_others_by_their_seed_alone(tmp_path, share):
    config = SweepConfig(name="one", share=str(tmp_path) if share else None)
    first = []
    for sweep_id in ("a", "b", "a"):  # of one name; the last is the first one resumed
        search = make_search(STUDY, config, None, sweep_id)
        search.set_search_properties("fid", "min", SPACE)
        first.append(search.suggest("x")["beta"])
    assert first[0] == first[2] and (first[0] != first[1]) == share


def test_a_kernel_that_the_space_has_no_axes_for_is_refused_before_anything_begins():
    config = SweepConfig(name="x", surrogate="report")
    make_search(STUDY, config, None)
    study = replace(STUDY, space={"rate": tune.loguniform(1e-4, 1e-2)})
    with pytest.raises(SpaceError, match="surrogate='report' measures distances on raw axes; rate has none"):
        make_search(study, config, None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"searcher": "random"}, "--share is for this project's own searcher; leave it or --searcher random"),
        ({"points": "p.json"}, "--share is for a search, and --points leaves nothing to search"),
    ],
)
def test_what_cannot_share_is_refused(changes, sentence):
    config = SweepConfig(name="x", share="place", **changes)
    with pytest.raises(UsageError, match=sentence):
        make_search(STUDY, config, given_points(STUDY, config))


ACTS = st.lists(
    st.one_of(
        st.sampled_from(["write", "write", "write", "look", "look", "read", "resume", "gone"]),
        st.floats(0, 1),  # the file is cut there: a write of it was seen half done
    ),
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(ACTS)
def test_each_row_is_learned_exactly_once_whatever_happens(acts):
    with tempfile.TemporaryDirectory() as folder:
        one, two = Sweep(Path(folder), "one"), Sweep(Path(folder), "two")
        story = list(STORY)
        for act in [*acts, *["write"] * len(STORY), "look", "read"]:
            if act == "write" and story:
                write(one.ledger, story.pop(0))
            elif act == "look":
                one.step()
            elif act == "read":
                two.step()
            elif act == "resume":
                one.begin()
                two.begin()
            elif act == "gone":
                one.file.unlink(missing_ok=True)
            elif isinstance(act, float) and one.file.exists():
                content = one.file.read_bytes()
                one.file.write_bytes(content[: math.floor(act * len(content))])
                two.step()
                one.file.write_bytes(content)
        ends = [("a", "finished"), ("b", "failed")]
        expected = [(trial, str(epoch)) for trial in "abc" for epoch in (1, 2, 3)] + ends
        assert two.heard() == Counter(("one-id", *found) for found in expected)
        learned = {name: (state, rows_) for name, (state, rows_) in two.learned.items()}
        assert learned == {f"one-id/{t}": (RUNNING if t == "c" else ENDED, rows(t)) for t in "abc"}
        two.begin()
        two.share.on_step_begin(0, [])
        assert two.learned == learned


def test_a_diverged_trial_is_a_bad_place_here_too(tmp_path):
    one, two = Sweep(tmp_path, "one"), Sweep(tmp_path, "two")
    write(one.ledger, STORY[0])
    metrics = {"fid": math.nan, "diverged": 1.0}
    one.ledger.append("result", trial="a", epoch=1, metrics=metrics, images={}, node="x", flags="")
    write(one.ledger, ("end", "a", "diverged"))
    one.step()
    two.step()
    assert two.search.history.trials["one-id/a"].state == FAILED


def test_a_description_names_the_models_defaults():
    said = described(STUDY, FIRST)
    assert (
        "gamma" in said["settings"] and "dataset" not in said["settings"] and "beta" not in said["settings"]
    )
    assert difference(said, said) is None
    assert json.loads(json.dumps(said)) == said


def test_a_description_is_the_same_whichever_recipe_a_sweep_begins_with():
    study = replace(STUDY, space=SPACE | {"recipe": tune.choice(["larsen", "modern"])})
    said = [described(study, FIRST | {"recipe": recipe}) for recipe in ("larsen", "modern")]
    assert said[0] == said[1]
    held = described(replace(STUDY, settings={**SETTINGS, "recipe": "modern"}), FIRST)
    assert "its model is trainables.models.modern:Modern" in difference(held, described(STUDY, FIRST))
