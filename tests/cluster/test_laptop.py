"""A command for a cluster, as far as this machine alone can tell: `test_ray_up` runs one on machines."""

import functools
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.autoscaler._private.providers import _clear_provider_cache
from rich.console import Console

from cluster import command, head, laptop, runs
from cluster.background import BackgroundError
from cluster.errors import ClusterError
from cluster.head import Head
from cluster.laptop import Follower, content_hash, place_of, replaced, without
from cluster.runs import MARK, Run
from searchers import beta_vaegan, flow, happy_people
from searchers.record.ledger import Ledger
from tests.fixtures.files import write
from tests.fixtures.machines import REPOSITORY
from tests.fixtures.waits import wait_until

YAML = str(REPOSITORY / "ray_cluster.yaml")


def test_a_dry_run_says_what_would_run_and_what_would_be_sent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "my photos").mkdir()
    (tmp_path / "my photos/a.png").write_bytes(b"x")
    (tmp_path / "mine.py").touch()
    words = ["--on", YAML, "--dry-run", "--dataset", "my photos", "--set", "scores=mine:sharp", "--epochs=3"]
    assert beta_vaegan.main([*words, "--name", "a b", "--results", "/nfs/runs", "--preset", "quick"]) == 0
    said = capsys.readouterr().out.splitlines()
    place = f"/nfs/runs/sent/{content_hash(tmp_path / 'my photos')}/my_photos"
    assert said[0] == (
        "On the head of cluster latentune, in ~/latentune: python -m searchers.beta_vaegan "
        f"--dataset {place} --set scores=mine:sharp --epochs=3 --name 'a b' --results /nfs/runs "
        "--preset quick"
    )
    assert said[2] == f"Sent, where it is not there yet: my photos to {place}"
    assert said[3] == "Fetched at its end: /nfs/runs/a b, without checkpoints, to results/a b/"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "my photos"]
    assert flow.main(["--dry-run", f"--on={YAML}", "--preset", "quick"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "searchers.flow --preset quick --name 2" in first and "--on" not in first
    (tmp_path / "judge.pt").write_bytes(b"x")  # one study's own file goes as those of all do
    assert happy_people.main(["--dry-run", "--on", YAML, "--scorer-weights=judge.pt"]) == 0
    place = f"/sent/{content_hash(tmp_path / 'judge.pt')}/judge.pt"
    first, _, sent, _ = capsys.readouterr().out.splitlines()
    assert f"--scorer-weights=~/latentune{place}" in first.replace("'", "")
    assert sent == f"Sent, where it is not there yet: judge.pt to ~/latentune{place}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "it can't be read (No such file or directory)"),
        ("a: [", "it is no YAML"),
        ("hello", "it is no file of `ray up`, which has cluster_name, provider and auth"),
        ({"file_mounts": {"~/latentune/cluster": "nowhere"}}, "nowhere, which is not there"),
        ({"file_mounts": {}}, "its file_mounts lack ~/latentune/cluster"),
    ],
)
def test_a_wrong_cluster_gets_a_sentence(content, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cluster.yaml"
    if isinstance(content, dict):
        content = yaml.safe_dump(yaml.safe_load(Path(YAML).read_text()) | content)
    if content is not None:
        path.write_text(content)
    assert beta_vaegan.main(["--on", str(path), "--preset", "quick"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_what_can_only_be_attached_to_with_a_cluster(capsys):
    assert beta_vaegan.main(["--attach", "tiny", "--preset", "quick"]) == 2
    assert "--attach shows what runs on a cluster" in capsys.readouterr().err


def test_a_cluster_that_is_up_is_known_by_what_ray_up_keeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(head, "STATE", str(tmp_path / "{}.state"))
    assert head.cluster_up_here() is None
    (tmp_path / "ray_cluster.yaml").write_text("cluster_name: ours")
    machines = {"10.0.0.1": {"tags": {"ray-node-type": "head"}, "state": "running"}}
    (tmp_path / "ours.state").write_text(json.dumps(machines))
    assert head.cluster_up_here() == "ours"
    machines["10.0.0.1"]["state"] = "terminated"
    (tmp_path / "ours.state").write_text(json.dumps(machines))
    assert head.cluster_up_here() is None
    (tmp_path / "ours.state").write_text("no JSON")
    assert head.cluster_up_here() is None


def write_cluster(path: Path, **changes) -> str:
    """Write a cluster's file that is ray_cluster.yaml but for changes; return its name."""
    path.write_text(yaml.safe_dump(yaml.safe_load(Path(YAML).read_text()) | changes))
    return str(path)


def test_a_person_s_own_file_mounts_are_of_their_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "credentials").touch()
    mounts = {"~/latentune/cluster": "cluster", "~/credentials": "~/credentials"}
    assert Head(write_cluster(tmp_path / "c.yaml", file_mounts=mounts)).config["file_mounts"] == {
        "~/latentune/cluster": str(REPOSITORY / "cluster"),
        "~/credentials": str(tmp_path / "credentials"),
    }


SSH = """#!/bin/bash
[ "$1" = -G ] && printf 'hostname 127.0.0.1\\nport PORT\\n' && exit
while [ "$1" != root@127.0.0.1 ]; do shift; done
shift
exec bash -c "$*"
"""


class Pretended:
    """This machine as the head of one's own machines, with a home of its own, an `ssh` and a `ray stop`."""

    def __init__(self, folder: Path, port: int):
        self.home, self.state = folder / "home", folder / "ray/cluster-latentune.state"
        (self.home / "latentune").mkdir(parents=True)
        commands = folder / "bin"
        commands.mkdir()
        (commands / "ssh").write_text(SSH.replace("PORT", str(port)))
        (commands / "ray").write_text(f"#!/bin/sh\necho $* >> {folder}/called\n")
        for path in commands.iterdir():
            path.chmod(0o755)
        self.called = folder / "called"
        where = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
        self.head = Head(write_cluster(folder / "cluster.yaml", provider=where, auth={"ssh_user": "root"}))
        path = f"{commands}:{Path(sys.executable).parent}:/usr/bin:/bin"
        self.settings = f"export PATH={path} PYTHONPATH={REPOSITORY}\n"
        self.set("")

    def set(self, more: str) -> None:
        """Have shells there begin with more words."""
        (self.home / ".bashrc").write_text(self.settings + more)


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Pretended(tmp_path, server.getsockname()[1])
        found.server = server
        monkeypatch.setenv("HOME", str(found.home))
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.chdir(tmp_path)
        _clear_provider_cache()  # Ray keeps one of each cluster's name
        yield found


RAY_RUNS = "export RAY_ADDRESS=127.0.0.1:6379\n"


def test_a_cluster_that_this_machine_has_forgotten_is_asked_for(pretended):
    for _ in range(2):
        with pytest.raises(ClusterError, match="Cluster latentune is not up: ray up "):
            pretended.head.reach()
    pretended.set(RAY_RUNS)
    pretended.head.reach()
    (machine,) = json.loads(pretended.state.read_text()).values()
    assert machine["state"] == "running" and machine["tags"]["ray-node-type"] == "head"
    pretended.set("")  # Ray's commands know it again, and nobody asks
    pretended.head.reach()
    assert "from there" in pretended.head.run("echo from there", "it fails")
    pretended.state.unlink()
    pretended.server.close()
    with pytest.raises(ClusterError, match=r"at 127\.0\.0\.1 does not answer"):
        pretended.head.reach()


def test_down_refuses_what_would_be_lost(pretended, monkeypatch):
    pretended.set(RAY_RUNS)
    folder = pretended.home / "latentune/results/faces"
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.append("begun")
    down = functools.partial(command.down, pretended.head, False, Console(file=io.StringIO()))
    with pytest.raises(ClusterError, match=r"^faces runs there: "):
        down()
    ledger.close()
    monkeypatch.setattr(Head, "goes", True)
    fetch = f"ray rsync_down {pretended.head.path} '~/latentune/results/' results/"
    here = Path("results/faces/ledger.jsonl")
    for has in (None, "beg"):  # nothing, or the first words
        if has:
            here.parent.mkdir(parents=True)
            here.write_text(has)
        with pytest.raises(ClusterError, match=f"^faces would go with the head: {fetch}, or --anyway"):
            down()
    assert not pretended.called.exists()
    shutil.copy(folder / "ledger.jsonl", here)
    assert down() == 0 and pretended.called.read_text() == "stop\n"


def test_down_anyway_needs_no_head_that_answers(pretended, monkeypatch):
    pretended.set(f"{RAY_RUNS}python() {{ return 1; }}\n")
    said = io.StringIO()
    with pytest.raises(ClusterError, match="does not run what it is told"):
        command.down(pretended.head, False, Console(file=said))
    assert command.down(pretended.head, True, Console(file=said)) == 0
    assert "is down; results stay on its head" in said.getvalue() and pretended.called.exists()
    pretended.server.close()
    with pytest.raises(ClusterError, match="does not answer"):  # nobody else can stop one's own machines
        command.down(pretended.head, True, Console(file=said))
    monkeypatch.setattr(Head, "goes", True)
    assert command.down(pretended.head, True, Console(file=said)) == 0
    assert "Its machines are ended all the same." in said.getvalue()
    assert "its head is gone with what lay there" in said.getvalue()


def test_heads_of_clouds_go_and_own_ones_stay(tmp_path):
    for name, goes in (("ray_cluster.yaml", False), ("cluster/aws.yaml", True), ("cluster/gcp.yaml", True)):
        assert Head(str(REPOSITORY / name)).goes == goes
    provider = {"type": "aws", "region": "us-west-2", "cache_stopped_nodes": True}
    assert not Head(write_cluster(tmp_path / "c.yaml", provider=provider)).goes


def test_words_without_a_flag_and_with_another_place():
    words = ["--on", "--dry-run", "--on=x", "--name", "--on", "x", "--dry-run", "y"]
    assert without(words[3:], "--on", "--dry-run") == ["--name", "y"]
    assert without(["--dry_run", "a"], "--dry-run") == without(["a", "--dry-run"], "--dry-run") == ["a"]
    assert without(["a", "--on", "x", "b", "--on=x"], "--on") == ["a", "b"]
    words = [
        "photos",
        "--dataset",
        "photos",
        "--name",
        "photos",
        "--inception_weights=w",
        "--set",
        "a=photos",
    ]
    places = {"--dataset": "/p", "--inception-weights": "/w"}
    there = "photos --dataset /p --name photos --inception_weights=/w --set a=photos"
    assert list(replaced(words, places)) == there.split()
    assert list(replaced(["--dataset=photos", "--name=photos"], places)) == ["--dataset=/p", "--name=photos"]


def test_a_known_data_set_is_none_of_this_machine(tmp_path, monkeypatch, capsys):
    """Also where a folder has that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    for typed in ([], ["--dataset", "faces"]):
        assert flow.main([*typed, "--on", YAML, "--dry-run", "--name", "faces", "--preset", "quick"]) == 0
        said = capsys.readouterr().out
        assert f"searchers.flow {' '.join([*typed, '--name faces'])} --preset quick" in said
        assert "where it is not there yet" not in said


def test_a_folder_s_hash_is_that_of_its_names_and_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below/a").write_bytes(b"1")
    first = content_hash(tmp_path / "one")
    assert content_hash(tmp_path / "two") == first
    (tmp_path / "two/below/a").write_bytes(b"2")
    assert content_hash(tmp_path / "two") != first
    (tmp_path / "one/below/a").rename(tmp_path / "one/below/b")
    assert content_hash(tmp_path / "one") != first


def test_a_link_s_own_name_says_of_which_kind_it_is(tmp_path):
    """As the hub's cache has files: what the link leads to has no ending."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/5f3a").write_bytes(b"1")
    (tmp_path / "set.parquet").symlink_to("blobs/5f3a")
    assert place_of(str(tmp_path / "set.parquet"), "/nfs").endswith("/set.parquet")
    (tmp_path / "faces").symlink_to("blobs")
    assert content_hash(tmp_path / "faces") == content_hash(tmp_path / "blobs")


@pytest.mark.parametrize("target", ["one/below", "one/below/a"])
def test_a_folder_with_links_is_refused(tmp_path, target):
    write(tmp_path, {"one/below/a": b"1", "two/b": b"2"})
    (tmp_path / "two/link").symlink_to(tmp_path / target)
    with pytest.raises(ClusterError, match=r"two holds links, .* such as link.*: copy it with cp -rL"):
        content_hash(tmp_path / "two")


def test_what_a_sweep_writes_into_a_folder_of_images_changes_no_hash(tmp_path):
    write(tmp_path, {"a.png": b"1"})
    before = content_hash(tmp_path)
    write(tmp_path, {"results/one/ledger.jsonl": b"{}", "results/one/grid.png": b"2", "mlflow.db": b"3"})
    assert content_hash(tmp_path) == before


def test_names_beyond_utf_8_have_a_hash(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"1")
    assert len(content_hash(tmp_path)) == 16


class Pieces(io.RawIOBase):
    """A pipe whose bytes come in given pieces."""

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self.pieces.pop(0) if self.pieces else b""
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        self.pieces[:0] = [piece[size:]] if piece[size:] else []
        return size


@given(st.binary(max_size=60).filter(lambda text: MARK[0].encode() not in text), st.data())
@settings(max_examples=60, deadline=None)
def test_output_is_shown_as_it_was_printed_however_it_comes(text, data):
    """All but Ray's words before it and what the head tells; a piece may end within the mark."""
    began = {"began": asdict(Run("a", ("python",), "~", ".", True)), "tracking": None}
    ended = {"state": "has ended", "code": 0}
    told = [f"{MARK}{json.dumps(words)}\n".encode() for words in (began, ended)]
    printed = b"<" + text + b"<<<\n"
    stream = b"Fetched IP: 1\n\n" + told[0] + printed + told[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    pieces = Pieces([stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)])
    follower, shown = Follower(pieces, 5000, Console(file=io.StringIO())), []
    follower._print = shown.append
    assert follower.show() == ended
    assert b"".join(shown).rstrip() == printed.rstrip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """This machine as the head of a cluster."""
    monkeypatch.setattr(runs, "HOME", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return tmp_path


def begin(here, program, name="one"):
    """Begin a run, in a process of its own, as the laptop does."""
    run = Run(name, (sys.executable, "-c", program), str(here / "work"), ".", False)
    code = (
        "import json, pathlib, sys; from cluster import runs; runs.HOME = pathlib.Path(sys.argv[1]); "
        "runs.start(runs.Run.of(json.loads(sys.argv[2])), 80)"
    )
    words = [sys.executable, "-c", code, str(here), json.dumps(asdict(run))]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stderr


def test_a_run_goes_on_by_itself_and_is_shown_by_as_many_as_look(here, capsys):
    assert begin(here, "open('made', 'w'); print('first'); print('last')") == ""
    for _ in range(2):
        runs.follow("one", 80, 24, plain=True)
        told = capsys.readouterr().out
        began, ended = head.told_in(told.splitlines())
        assert began["began"]["name"] == "one" and "first\nlast\n" in told
        assert ended["state"] == "has ended" and ended["code"] == 0
        assert ended["folders"] == [str(here / "work")]
    runs.listed()
    (told,) = head.told_in(capsys.readouterr().out.splitlines())
    assert [row[0] for row in told["runs"]] == ["one"]


def test_a_sweep_s_parts_are_told_by_their_ids(tmp_path):
    """However old their folders are; a sweep of a name that begins alike is another one."""
    run = Run("a[b]", ("python",), str(tmp_path), "results/a[b]", sweep=True, began=1e12)
    assert run.folders == []
    sweeps = {"a[b]": "f00", "a[b]-final": "f00-final", "a[b]-2": "ba7", "a[b]-old": "f00", "a": "f00-"}
    for name, sweep_id in sweeps.items():
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / "sweep.json").write_text(json.dumps({"sweep_id": sweep_id}))
    assert [path.name for path in run.folders] == ["a[b]", "a[b]-final"]
    (tmp_path / "results/a[b]/sweep.json").write_text("{")
    assert [path.name for path in run.folders] == ["a[b]"]


def test_a_run_is_stopped_once_and_not_begun_twice(here, capsys):
    assert begin(here, "import time; print('ready', flush=True); time.sleep(600)") == ""
    wait_until(lambda: "ready" in (here / "runs/one/log").read_text())
    assert runs.state("one") == ("runs", None)
    assert "one is going on already: --attach one shows it" in begin(here, "")
    runs.stop("one")
    wait_until(lambda: runs.state("one")[0] != "runs")
    assert runs.state("one") == ("failed with exit code -2", -2)  # a sweep ends in order, by itself
    with pytest.raises(BackgroundError, match="one has ended already"):
        runs.stop("one")
    with pytest.raises(BackgroundError, match="No run 'two' was begun on this cluster; there are: one"):
        runs.read("two")
    capsys.readouterr()
    assert begin(here, "print('again')") == ""
    runs.follow("one", 80, 24, plain=True)
    said = capsys.readouterr().out
    assert "again" in said and "ready" not in said  # that is the earlier run's


def test_a_sweep_does_not_begin_on_the_head_alone(here, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run = Run("faces", ("python", "-m", "searchers.flow"), str(here), "results/faces", True)
    with pytest.raises(BackgroundError, match="Ray does not run on the head"):
        runs.start(run, 80)
    assert not (here / "runs").exists()


def test_a_run_whose_process_was_killed_is_told_to_be_lost(here, capsys):
    assert begin(here, "import time; print('ready', flush=True); time.sleep(600)") == ""
    wait_until(lambda: "ready" in (here / "runs/one/log").read_text())
    keeper, run = map(int, (here / "runs/one/lock").read_text().split())
    os.kill(keeper, 9)
    os.kill(run, 9)
    wait_until(lambda: runs.state("one")[0] != "runs")
    assert runs.state("one") == ("was lost: --resume goes on from what is kept", 1)


def test_errors_of_the_head_are_one_sentence():
    with pytest.raises(ClusterError, match="no such run"):
        head.told_in(["noise", f'{MARK}{{"error": "no such run"}}'])
    assert head.reason(["Fetched IP", "ssh: connect to host 10.0.0.1 port 22: No route to host"]).endswith(
        "host"
    )
    assert Head(YAML).name == "latentune"
    assert laptop.free_port() > 0
