"""Each setting of each sweep has a range, on the command line as in a resumed sweep's file."""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal, get_args, get_type_hints

import numpy as np
import pytest

from searchers import baselines, beta_vaegan, densities, happy_people, lego_vae
from searchers.study.ranges import COUNT, GPUS, PLAIN_NAME, SEVERAL, Rule, between, check, each, multiple_of

SWEEPS = [beta_vaegan, baselines, lego_vae, happy_people, densities]
WRONG = {
    float: [math.nan, math.inf, -math.inf, -1.0, -1e-9, 1e-9, 1e18],
    int: [-1, -3, 10**15, 2**70],
}
NAMES = [
    "",
    ".",
    "..",
    "../../x",
    "a/b",
    "/tmp/x",
    ".hidden",
    "-rf",
    "x" * 300,
    "a\nb",
    "a\0b",
    "\udcff",
    "ü" * 101,
]


def numbers(config):
    """Yield the settings that are numbers, with their types."""
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        told = [kind for kind in get_args(hint) or [hint]]
        for kind in (int, float):
            if kind in told or any(kind in get_args(part) for part in told):
                yield name, kind, [rule for rule in told if isinstance(rule, Rule)]


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.PROGRAM)
def test_every_number_has_a_range_that_refuses_absurd_ones(sweep):
    config, seen = sweep.PRESETS["quick"], set()
    for name, kind, rules in numbers(config):
        assert rules, f"{name} has no range"
        for value in WRONG[kind]:
            values = (value,) if isinstance(getattr(config, name), tuple) else value
            if value == 1e-9 and name in ("beta", "max_degree"):
                continue
            with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is .*; it must be "):
                replace(config, **{name: values})
        seen.add(name)
    assert {"seed", "seeds"} & seen and {"width", "image_size", "cpus_per_trial", "dataset_limit"} < seen


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.PROGRAM)
@pytest.mark.parametrize("name", NAMES)
def test_names_are_plain(sweep, name):
    for option in ("name", "resume"):
        with pytest.raises(ValueError, match=f"--{option} is .*; it must be "):
            replace(sweep.PRESETS["quick"], **{option: name})


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.PROGRAM)
def test_no_text_is_empty(sweep):
    config = sweep.PRESETS["quick"]
    texts = [
        f.name for f in fields(config) if str in (t := get_type_hints(type(config))[f.name], *get_args(t))
    ]
    assert {"dataset", "results", "storage", "tracking_uri", "address"} < set(texts)
    for name in texts:
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is ''; it must be"):
            replace(config, **{name: ""})


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.PROGRAM)
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--name", "../../x"], "--name is '../../x'; it must be a plain name"),
        (["--max-concurrent", "0"], "--max-concurrent is 0; it must be from 1 to"),
        (["--dataset-limit", "-3"], "--dataset-limit is -3; it must be from 1 to"),
        (["--cpus-per-trial", "inf"], "--cpus-per-trial is inf; it must be"),
        (["--gpus-per-trial", "nan"], "--gpus-per-trial is nan; it must be 0, a share"),
        (["--name", "x" * 300], "it must be a plain name"),
    ],
    ids=lambda flags: flags[0] if isinstance(flags, list) else "",
)
def test_the_command_refuses_in_a_sentence(sweep, flags, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--preset", "quick", *flags])
    printed = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert ended.value.code == 2 and said in printed and "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_ranges_include_their_ends():
    rule = between(1, 3)
    assert rule.holds(1) and rule.holds(3) and not rule.holds(0.999) and not rule.holds(3.001)
    assert [n for n in range(30) if multiple_of(8, 16, 24).holds(n)] == [16, 24]
    assert each(rule).holds((1, 3)) and not each(rule).holds((1, 4)) and not each(rule).holds(())
    assert SEVERAL.holds(("a", "b")) and not SEVERAL.holds(()) and not SEVERAL.holds(("a", "a"))


@pytest.mark.parametrize(("value", "right"), [(0, True), (0.25, True), (1, True), (2, True), (1.5, False)])
def test_a_trial_gets_a_share_of_a_gpu_or_whole_ones(value, right):
    """Ray refuses 1.5 GPUs, and counts in steps of 0.0001."""
    assert GPUS.holds(value) == right


def test_usual_names_are_plain():
    assert all(
        PLAIN_NAME.holds(name) for name in ("20261129-101530", "faces", "β, erster Versuch", "a.b_c-d")
    )


def test_values_of_another_type_are_refused_and_none_is_left_alone():
    @dataclass
    class Config:
        epochs: Annotated[int, COUNT] = 3
        limit: Annotated[int | None, COUNT] = None

    check(Config())
    with pytest.raises(ValueError, match="--epochs is '3'; it must be a whole number"):
        check(Config(epochs="3"))
    with pytest.raises(ValueError, match="--limit is 0"):
        check(Config(limit=0))


@dataclass(frozen=True)
class Kinds:
    """A setting of each type."""

    kind: Literal["a", "b"] = "a"
    count: int = 1
    limit: Annotated[int | None, COUNT] = None
    share: float = 0.5
    on: bool = False
    place: str | None = None
    words: tuple[str, ...] = ()
    numbers: Annotated[tuple[int, ...], SEVERAL] = (1,)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"count": 1e4}, 10_000),
        ({"count": np.int64(12)}, 12),
        ({"limit": np.float32(3)}, 3),
        ({"share": 1}, 1),
        ({"on": np.bool_(True)}, True),
        ({"place": Path("a/b")}, "a/b"),
        ({"words": ["a", "b"]}, ("a", "b")),
        ({"numbers": [1.0, np.int64(2)]}, (1, 2)),
    ],
)
def test_what_stands_for_a_value_becomes_it(given, taken):
    config = Kinds(**given)
    check(config)
    found = getattr(config, *given)
    assert found == taken and type(found) is type(taken)
    json.dumps(asdict(config))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "c"}, "--kind is 'c'; it must be one of a, b"),
        ({"kind": ["a"]}, "--kind is a; it must be one of a, b"),
        ({"count": 1.5}, "--count is 1.5; it must be a whole number"),
        ({"count": True}, "--count is True; it must be a whole number"),
        ({"count": None}, "--count is None; it must be a whole number"),
        ({"limit": "3"}, "--limit is '3'; it must be a whole number"),
        ({"share": "1"}, "--share is '1'; it must be a number"),
        ({"on": "false"}, "--on is 'false'; it must be True or False"),
        ({"place": 3}, "--place is 3; it must be a word"),
        ({"words": "a=1"}, "--words is 'a=1'; it must be a list"),
        ({"numbers": [1, "2"]}, "--numbers is 1 2; it must be a whole number"),
    ],
)
def test_another_type_is_refused_in_a_sentence(wrong, said):
    with pytest.raises(ValueError) as refused:
        check(Kinds(**wrong))
    assert str(refused.value) == said
