"""Damaged books, points and flags end in a result or in one sentence, never a traceback."""

import contextlib
import io
import json

import pytest

from searchers.beta_vaegan import PRESETS, BetaVAEGANConfig
from searchers.execution.cli import parse
from searchers.execution.fixed_points import check_points
from searchers.execution.resume import STORED, resolve, store
from searchers.record.ledger import Ledger
from searchers.study.config import UsageError
from searchers.study.given import listed_points
from tests.fixtures.fuzz import Subject, check
from tests.searchers.execution.test_fixed_points import SETTINGS, SPACE
from tests.searchers.execution.test_resume import two_trials

PROGRAM = "python -m searchers.x"
POINTS = [
    {"beta": 76.3, "layers": 1, "model": "VAE", "seed": 1},
    {"beta": 3, "layers": 2, "model": "GAN", "learning_rate": 0.01},
]
FLAGS = [
    "--epochs 3 --num-samples 4 --seed 7 --objectives fd mig --name run[v2]",
    "--width 0.25 --image-size 32 --cpus-per-trial 0.5 --gpus-per-trial 0 --batch-size 16",
    "--dataset photos --evaluation-samples 500 --trainings 2.5 --grace-epochs None --no-early-stopping",
    "--preset report --surrogate nuts --points points.json --storage s3://bucket/folder --resume one",
]


class Refused(Exception):  # noqa: N818  a sentence for a person, whatever said it
    pass


def settings(tmp_path):
    """Return the bytes that `store` writes."""
    store(tmp_path / "one", PROGRAM, "id", BetaVAEGANConfig(name="one", results=str(tmp_path), epochs=7))
    return (tmp_path / "one" / STORED).read_bytes()


def resume(path):
    folder = path.parent / "one"
    folder.mkdir()
    (folder / STORED).write_bytes(path.read_bytes())
    default = BetaVAEGANConfig()
    resolve(BetaVAEGANConfig(resume="one", results=str(path.parent)), default, PROGRAM)


def read_ledger(path):
    ledger = Ledger(path)
    ledger.damaged()
    for record in ledger.trials().values():
        record.last("fid")


def read_flags(path):
    """Parse a file's words as flags, as a shell would pass them."""
    words = path.read_bytes().decode(errors="surrogateescape").replace("\0", "").split()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parse(PROGRAM, PRESETS, words)
    except SystemExit as end:
        assert end.code in (0, 2), said.getvalue()
        if end.code:
            assert "Traceback" not in said.getvalue() and said.getvalue().strip()
            raise Refused("the flags") from end


def read_given(path):
    check_points(listed_points(path), str(path), SPACE, SETTINGS)


@pytest.mark.parametrize("kind", ["settings", "ledger", "points", "flags"])
def test_damage_is_refused_in_one_sentence(tmp_path, kind):
    (tmp_path / "whole").mkdir()
    if kind == "settings":
        inputs = {"settings": settings(tmp_path / "whole")}
        subject = Subject(kind, inputs, resume, (UsageError,), 300)
    elif kind == "ledger":
        subject = Subject(
            kind, {"ledger.jsonl": two_trials(tmp_path / "whole").path.read_bytes()}, read_ledger, (), 300
        )
    elif kind == "points":
        inputs = {"points.json": json.dumps(POINTS).encode(), "best.json": json.dumps(POINTS[0]).encode()}
        subject = Subject(kind, inputs, read_given, (ValueError,), 300)
    else:
        inputs = {f"flags{number}": line.encode() for number, line in enumerate(FLAGS)}
        subject = Subject(kind, inputs, read_flags, (Refused,), 200)
    refused, read = check(subject, tmp_path)
    assert refused + read == subject.count
    assert refused > 0 or not subject.refusals
