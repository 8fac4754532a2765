"""A sweep's stored settings, whole and damaged: a sentence, never a traceback, and nothing is lost."""

import json
import random
from pathlib import Path

import pytest

from searchers.densities import DensityConfig
from searchers.execution.resume import STORED, located, resolve, store, stored
from searchers.record.ledger import Ledger
from searchers.record.schema import FINISHED
from searchers.study.config import SweepConfig, UsageError

PROGRAM = "python -m searchers.x"


@pytest.fixture
def folder(tmp_path):
    store(tmp_path / "one", PROGRAM, "id", SweepConfig(name="one", results=str(tmp_path), epochs=7), "hash")
    return tmp_path / "one"


def resume(folder, program=PROGRAM, kind=SweepConfig, **given):
    return resolve(kind(resume="one", results=str(folder.parent), **given), kind(), program, given.keys())


def test_a_resumed_sweep_has_the_settings_it_began_with(folder):
    config, sweep_id = resume(folder)
    assert (config.epochs, config.name, config.resume, sweep_id) == (7, "one", "one", "id")
    assert stored(folder).data_hash == "hash"


def test_a_sweep_is_resumed_where_it_is_found(tmp_path, monkeypatch):
    """Its results were fetched from a cluster, or moved, since it began."""
    monkeypatch.chdir(tmp_path)
    began = SweepConfig(name="one", results="/scratch/elsewhere")
    store(tmp_path / "results/one", PROGRAM, "id", began)
    config, _ = resolve(SweepConfig(resume="one"), SweepConfig(), PROGRAM)
    assert config.folder == Path("results/one")


def test_a_folder_with_another_name_is_not_begun_anew(folder):
    folder.rename(folder.with_name("two"))
    with pytest.raises(UsageError, match=r"'two' began as 'one', .*: give its folder that name back"):
        resolve(SweepConfig(resume="two", results=str(folder.parent)), SweepConfig(), PROGRAM)


def test_places_are_found_again_from_any_folder(tmp_path, monkeypatch):
    def resolved(**settings):
        return resolve(SweepConfig(results=str(tmp_path), **settings), SweepConfig(), PROGRAM)[0]

    monkeypatch.chdir(tmp_path)
    config = resolved(name="one", storage="checkpoints", share="~/shared")
    assert config.storage == str(tmp_path / "checkpoints")
    assert config.share == str(Path("~/shared").expanduser())
    store(config.folder, PROGRAM, "id", config)
    monkeypatch.chdir("/")
    assert resolved(resume="one").storage == str(tmp_path / "checkpoints")
    assert resolved(storage="s3://bucket/x", share="file:///shared").storage == "s3://bucket/x"


def test_images_and_weights_are_found_again_from_any_folder_and_may_move(tmp_path, monkeypatch):
    def resolved(**settings):
        config = SweepConfig(results=str(tmp_path), **settings)
        return resolve(config, SweepConfig(), PROGRAM, settings.keys())[0]

    for folder in ("photos", "moved"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").symlink_to("moved")  # which each machine may have elsewhere
    assert resolved(data_root="sets").data_root == str(tmp_path / "sets")
    config = resolved(name="one", dataset="photos/", inception_weights="w.pth", data_root="~/sets")
    assert config.dataset == str(tmp_path / "photos")
    assert config.inception_weights == str(tmp_path / "w.pth")
    assert config.data_root == str(Path("~/sets").expanduser())
    store(config.folder, PROGRAM, "id", config)
    monkeypatch.chdir("/")
    assert resolved(resume="one").dataset == str(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    changed = resolved(resume="one", dataset="moved", inception_weights="v.pth")
    assert changed.dataset == str(tmp_path / "moved")
    assert changed.inception_weights == str(tmp_path / "v.pth")


def test_a_sweep_that_kept_the_words_that_were_typed_goes_on_beside_its_images(tmp_path, monkeypatch):
    """As an earlier version did."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    began = SweepConfig(name="one", results=str(tmp_path), dataset="photos")
    store(tmp_path / "one", PROGRAM, "id", began)
    assert resume(tmp_path / "one")[0].dataset == str(tmp_path / "photos")


def test_first_stages_are_found_again_from_any_folder(tmp_path, monkeypatch):
    def resolved(**settings):
        return resolve(SweepConfig(results=str(tmp_path), **settings), SweepConfig(), PROGRAM)[0]

    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    words = {
        "set": ("first_stage=a", "gamma=2"),
        "space": ("first_stage=choice('a',b,'no')", "x=uniform(0,1)"),
    }
    config = resolved(name="one", **words)
    assert config.set == (f"first_stage={tmp_path}/a", "gamma=2")
    assert config.space == (f"first_stage=choice('{tmp_path}/a','{tmp_path}/b','no')", "x=uniform(0,1)")
    store(config.folder, PROGRAM, "id", config)
    assert resolved(resume="one", **words).set == config.set
    monkeypatch.chdir("/")
    assert resolved(resume="one") == resolved(resume="one", set=config.set, space=config.space)
    assert resolved(resume="one").set == config.set and resolved(set=("gamma=2",)).set == ("gamma=2",)


def test_a_name_with_a_space_is_quoted_where_it_is_to_be_typed(tmp_path):
    config = SweepConfig(name="lego 1", results=str(tmp_path))
    store(config.folder, PROGRAM, "id", config)
    with pytest.raises(UsageError, match="--resume 'lego 1' continues it"):
        resolve(config, SweepConfig(), PROGRAM)


def test_names_and_addresses_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    for name in ("faces", "hf:faces", "s3://bucket/x.arrow#1", "file:///x.tar", "", " ", "none", "a" * 999):
        assert located(name) == name
    (tmp_path / "x.parquet").symlink_to("blob")
    (tmp_path / "blob").touch()
    assert located("x.parquet") == str(tmp_path / "x.parquet")  # the blob has no ending
    there = resolve(SweepConfig(dataset="x.parquet", on="ray_cluster.yaml"), SweepConfig(), PROGRAM)[0]
    assert there.dataset == "x.parquet"


def test_sweeps_without_a_name_that_begin_at_once_have_different_ones(tmp_path):
    names = {resolve(SweepConfig(results=str(tmp_path)), SweepConfig(), PROGRAM)[0].name for _ in range(9)}
    assert len(names) == 9 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"epochs": SweepConfig.epochs}, "epochs"),
        ({"epochs": 9}, "epochs"),
        ({"name": "two"}, "name"),
        ({"preset": "report"}, "preset"),
        ({"early_stopping": True}, None),
        ({"epochs": 7, "name": "one", "preset": "quick"}, None),
    ],
)
def test_what_is_given_is_refused_where_it_began_with_another(folder, given, refused):
    """Also where it is the default's, which can't be told from one that nobody gave."""
    if refused is None:
        assert resume(folder, **given)[0] == resume(folder)[0]
    else:
        with pytest.raises(UsageError, match=f"keeps the settings it began with: leave out --{refused}"):
            resume(folder, **given)


def test_what_may_change_may_become_the_default_s(folder):
    usual = SweepConfig()
    began = SweepConfig(name="one", results=str(folder.parent), max_concurrent=1, tracking_uri="http://x")
    store(folder, PROGRAM, "id", began)
    assert (kept := resume(folder)[0]).max_concurrent == 1 and kept.tracking_uri == "http://x"
    now = resume(folder, max_concurrent=None, tracking_uri=usual.tracking_uri)[0]
    assert now.max_concurrent is None and now.tracking_uri == usual.tracking_uri


def test_given_trials_are_resumed_from_the_file_that_the_sweep_keeps(folder, monkeypatch):
    points = folder.parent / "mine.json"
    began = SweepConfig(name="one", results=str(folder.parent), points=str(points))
    assert began.points_file == points
    store(folder, PROGRAM, "id", began)
    assert resume(folder)[0].points_file == points  # none was kept
    monkeypatch.chdir(folder.parent)
    assert resume(folder, points="mine.json")[0].points_file == points  # the same, as it was typed
    began.kept_points.write_text("[]")
    assert began.points_file == points  # left by another
    assert resume(folder)[0].points_file == began.kept_points


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "null",
        "7",
        '{"sweep_id": "id"}',
        '{"program": 1, "sweep_id": 2, "data_hash": 3, "config": 4}',
    ],
)
def test_a_damaged_file_is_told(folder, text):
    (folder / STORED).write_text(text)
    with pytest.raises(UsageError, match=r"sweep.json can't be read \(.*\): bring it back"):
        resume(folder)


def test_the_settings_of_another_version_are_told(folder):
    content = json.loads((folder / STORED).read_text())
    content["config"]["momentum"] = 0.9
    (folder / STORED).write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"are another version's, or damaged: .*momentum"):
        resume(folder)


def test_a_sweep_of_another_program_is_told(folder):
    with pytest.raises(UsageError, match=r"is one of python -m searchers\.x: .* --resume one"):
        resume(folder, "python -m searchers.densities", DensityConfig)


def test_a_part_goes_on_with_its_whole(tmp_path):
    config = SweepConfig(name="one-vae", results=str(tmp_path))
    store(tmp_path / "one-vae", PROGRAM, "id-vae", config, "hash")
    with pytest.raises(UsageError, match=r"'one-vae' is a part of 'one', which .* --resume one --results"):
        resolve(SweepConfig(resume="one-vae", results=str(tmp_path)), SweepConfig(), PROGRAM)


def test_what_is_stored_survives_any_mutation_with_a_sentence(folder):
    """Two hundred bytes changed, cut, doubled: each resume works or says why it does not."""
    original, chance = (folder / STORED).read_bytes(), random.Random(0)
    outcomes = set()
    for _ in range(200):
        content = mutated(original, chance)
        (folder / STORED).write_bytes(content)
        try:
            resume(folder)
            outcomes.add("resumed")
        except UsageError as error:
            assert len(str(error).splitlines()) == 1
            outcomes.add("told")
    assert outcomes == {"resumed", "told"}


def test_a_ledger_keeps_what_can_be_read_of_it(tmp_path):
    """Cut lines, NUL bytes, blank and doubled lines, CRLF: all whole events stay, the others are numbered."""
    ledger = two_trials(tmp_path)
    lines = ledger.path.read_bytes().splitlines()
    damaged = [lines[0], lines[0], b"", lines[1][:20], lines[1] + b"\r", b"\0" * 30, *lines[2:]]
    ledger.path.write_bytes(b"\n".join(damaged) + b"\n" + lines[0][:9])
    assert ledger.damaged() == [4, 6]
    records = ledger.trials()
    assert {name: (r.status, r.last("fid")) for name, r in records.items()} == {
        "t1": (FINISHED, 1.0),
        "t2": (FINISHED, 2.0),
    }
    original, chance = ledger.path.read_bytes(), random.Random(1)
    for _ in range(200):
        ledger.path.write_bytes(mutated(original, chance))
        ledger.damaged()
        assert ledger.trials().keys() <= {"t1", "t2"} or b"t1" in original
        for record in ledger.trials().values():
            record.last("fid")


def two_trials(folder):
    """Return a closed ledger of two trials that ended."""
    ledger = Ledger(folder / "ledger.jsonl")
    for number in (1, 2):
        ledger.append("trial", trial=f"t{number}", number=number, config={"beta": 1.0})
        ledger.append("result", trial=f"t{number}", epoch=3, metrics={"fid": 1.0 * number}, images={})
        ledger.append("end", trial=f"t{number}", status=FINISHED)
    ledger.close()
    return ledger


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return the content with a byte changed, a stretch cut or doubled, or its end lost."""
    i, j = sorted(chance.randrange(len(content)) for _ in range(2))
    kind = chance.randrange(4)
    if kind == 0:
        return content[:i] + bytes([chance.randrange(256)]) + content[i + 1 :]
    if kind == 1:
        return content[:i] + content[j:]
    return content[:j] + content[i:] if kind == 2 else content[:i]
