"""Sweeps of one study that run at the same time learn from each other: `--share PLACE`.

Each sweep keeps a file in a place that all of them see (`post.py`) and reads those of the others; its
searcher learns of their trials row by row. What was read stands in the own ledger (event `heard`) before the
searcher knows it: a resumed sweep learns it from there, also where the other sweep is gone, and drops what
comes again.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Self

from ray import tune
from ray.tune.search import Searcher

from analysis.charts.text import number
from searchers.bayesopt.searcher import BayesOptSearch
from searchers.execution.post import Event, Heard, Place, Post
from searchers.record.ledger import Ledger
from searchers.record.schema import FINISHED, HEARD, HEARD_TAG, NOTE, OF_THIS_RUN
from searchers.record.trials import TrialRecord, best_record
from searchers.study.study import Study
from trainables.evaluation.inputs import split_config


def described(study: Study, first: dict[str, Any]) -> Event:
    """Return what a sweep's file begins with: what two sweeps must agree on, and what each searches.

    `first`: a trial's place in the space. The model's defaults, which nobody named, stand there, too.
    """
    model_class = getattr(study.trainable, "model_class", study.trainable)
    settings = dict(study.settings)
    if "recipe" not in study.space:  # else class and defaults differ from trial to trial
        model_class, named = study.trainable.model_of({**settings, **first})
        training, hyperparameters = split_config(model_class, named)
        settings |= asdict(training) | asdict(hyperparameters)
    apart = {*OF_THIS_RUN, *study.space} | ({"dataset"} if settings.get("data_hash") else set())
    header = {
        "event": "study",
        "model": f"{model_class.__module__}:{model_class.__qualname__}",
        "metric": study.metric,
        "mode": study.mode,
        "objectives": study.objectives,
        "space": sorted(study.space),
        "settings": {name: value for name, value in settings.items() if name not in apart},
    }
    plain: Event = json.loads(json.dumps(header, default=str))
    return plain


def difference(theirs: Event, ours: Event) -> str | None:
    """Say in what two sweeps differ so that neither learns from the other; None where they agree.

    What one of them searches and the other holds is no difference: trials with the held value fit both.
    """
    for name in ("model", "metric", "mode", "objectives"):
        if theirs.get(name) != ours[name]:
            return f"its {name} is {theirs.get(name)}, this sweep's {ours[name]}"
    one, other = theirs.get("settings", {}), ours["settings"]
    searched = {*theirs.get("space", []), *ours["space"]}
    for name in sorted((one.keys() | other.keys()) - searched):
        if one.get(name) != other.get(name):
            return f"its {name} is {one.get(name)}, this sweep's {other.get(name)}"
    return None


class Share(tune.Callback):
    """Teaches a searcher what other sweeps of the study find, and tells them what this one finds.

    As a context manager it looks once before the first trial, and tells the others the rest at its end.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        study: Study,
        first: dict[str, Any],
        search: BayesOptSearch,
        ledger: Ledger,
        say: Callable[[str], object],
    ):
        self.place, self.study, self.search, self.ledger, self.say = place[1], study, search, ledger, say
        self.header = described(study, first)
        keys = [study.metric, f"{study.metric}_std", *study.objectives]
        self.post = Post(place, name, self.header, ledger, keys)
        self.sweeps: dict[str, Heard] = {}
        self._begun = self._away = False

    def __enter__(self) -> Self:
        self.post.look()
        self.post.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.post.close()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Teach what has come; at first, what this sweep's ledger says of others."""
        if not self._begun:
            self._begun = True
            for _, event in self.ledger.events():
                if event["event"] == HEARD:
                    self._recall(event)
        if self._away != (self.post.trouble is not None):
            self._away = not self._away
            why = f"can't be reached ({self.post.trouble}): this sweep goes on alone, and looks again"
            self.say(f"{self.place} {why if self._away else 'is there again'}.")
        while not self.post.read.empty():
            self._hear(*self.post.read.get())

    def _recall(self, event: Event) -> None:
        """Take in what this sweep had heard before it was interrupted."""
        heard = self.sweeps.setdefault(event["sweep"], Heard(self.header))
        for told in event["trials"]:
            record = TrialRecord(told["trial"], told["number"], told["config"], status=told["status"])
            record.metrics = {int(epoch): metrics for epoch, metrics in told["metrics"].items()}
            heard.recall(record)
            self._teach(event["sweep"], record)

    def _hear(self, name: str, events: list[Event]) -> None:
        """Write what is new of another sweep into the ledger, and teach it."""
        heard = self.sweeps.setdefault(name, Heard(self.header))
        first, space = heard.header is None, self.search.space
        assert space is not None  # Tune tells it before its first step
        if first:
            heard.header = events[0] if events[0]["event"] == "study" else {}
            if reason := difference(heard.header, self.header):
                self.say(f"{_title(name)} in {self.place} is not learned from: {reason}.")
        if difference(heard.header or {}, self.header):
            return
        all_fitted, news = not heard.outside, heard.news(events, space)
        if first:
            begun = f"which has begun {len(heard.trials)} trials"
            self.say(f"Learns from {_title(name)} in {self.place}, {begun}.")
        if heard.outside and all_fitted:
            trial, reason = next(iter(heard.outside.items()))
            self.say(f"Trial {trial} of {_title(name)} is left out, as are others like it: {reason}.")
        if news:
            self.ledger.append(HEARD, sweep=name, trials=[told_of(record) for record in news])
            for record in news:
                self._teach(name, record)

    def _teach(self, name: str, record: TrialRecord) -> None:
        self.search.learn(replace(record, trial=f"{name}/{record.trial}"))

    def note(self) -> None:
        """Note in the ledger how many trials were learned from; MLflow has it as a tag of the sweep."""
        if known := self.known:
            said: Counter[str] = Counter()
            for name, trials in known.items():
                said[_title(name)] += trials  # sweeps on different clusters may have one name
            self.ledger.append(NOTE, tags={HEARD_TAG: json.dumps(said)})

    @property
    def known(self) -> dict[str, int]:
        """How many trials were learned from, by sweep."""
        count = {
            name: sum(bool(t.metrics) for t in heard.trials.values()) for name, heard in self.sweeps.items()
        }
        return {name: trials for name, trials in count.items() if trials}

    def words(self) -> list[str]:
        """Say what was learned from, and whether the best there is better known; a line for each sweep."""
        lines = []
        for name, trials in self.known.items():
            records = list(self.sweeps[name].trials.values())
            best = best_record(records, self.study.metric, self.study.mode)
            said = f"Learned from {trials} trials of {_title(name)}"
            if best is not None and best.status == FINISHED:
                score = number(best.last(self.study.metric))
                said += f", whose best is trial {best.number} with {self.study.metric} {score}"
            lines.append(f"{said}.")
        return lines


def sharing(
    study: Study,
    place: Place | None,
    name: str,
    first: dict[str, Any],
    search: Searcher,
    ledger: Ledger,
    say: Callable[[str], object],
) -> Share | None:
    """Return what `--share` asks for; None without a place, and where nothing is searched."""
    if place is None or not isinstance(search, BayesOptSearch):
        return None
    return Share(place, name, study, first, search, ledger, say)


def _title(name: str) -> str:
    """Return a sweep's own name: its file's has its id, too."""
    return name.rpartition("-")[0] or name


def told_of(record: TrialRecord) -> dict[str, Any]:
    """Return what the ledger keeps of what was heard of a trial."""
    kept = ("trial", "number", "config", "metrics", "status")
    return {name: getattr(record, name) for name in kept}
