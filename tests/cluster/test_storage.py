"""Where checkpoints go is settled before a sweep begins, or refused in a sentence."""

import errno
import os
from pathlib import Path

import pytest

from cluster import storage
from cluster.connect import Cluster, Node
from cluster.errors import ClusterError
from cluster.storage import full_disk_told, refuse_unseen, resolve

ALONE = Cluster(None, (Node(2, 0),))
GROWING = Cluster("10.0.0.1:6379", (Node(4, 0),), (Node(4, 0), Node(8, 1)))


def test_one_machine_keeps_checkpoints_with_the_sweep(tmp_path):
    assert resolve(None, tmp_path / "mine", ALONE) == str(tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_storage_holds_a_folder_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("nfs", tmp_path / "results/mine", ALONE) == str(
        tmp_path / "nfs/mine"
    )  # Ray wants it absolute


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match=r"Nothing can be written in .*file/mine .Not a directory"):
        resolve(str(tmp_path / "file"), tmp_path / "mine", ALONE)


def test_nodes_that_join_later_need_a_network_s_folder(tmp_path, monkeypatch):
    with pytest.raises(
        ClusterError, match=r"Nodes that join later will not see .*mine, which is this machine's"
    ):
        resolve(None, tmp_path / "mine", GROWING)
    monkeypatch.setattr(storage, "_file_system", lambda path: "nfs4")
    assert resolve(None, tmp_path / "mine", GROWING) == str(tmp_path / "mine")


def test_images_that_a_node_does_not_see_are_refused(tmp_path, monkeypatch):
    pictures = tmp_path / "pictures"
    refuse_unseen(str(pictures), GROWING)  # no path of this machine: a name, or an address
    pictures.mkdir()
    refuse_unseen(str(pictures), ALONE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    refuse_unseen("faces", GROWING)  # a known name
    with pytest.raises(ClusterError, match=r"join later will not see .*pictures.*convert --output s3:"):
        refuse_unseen(str(pictures), GROWING)
    two = Cluster("10.0.0.1:6379", (Node(4, 0), Node(4, 0)))
    asked = []

    def answer(question, folder, name):
        asked.append((folder, name))
        return {"here": question(folder, name), "there": question("/nowhere", name)}

    monkeypatch.setattr(storage, "ask_nodes", answer)
    with pytest.raises(
        ClusterError, match=r"and there does not see .*pictures: put it where all nodes see it"
    ):
        refuse_unseen(str(pictures), two)
    assert asked == [(str(tmp_path), "pictures")]


def test_the_innermost_mount_tells_the_file_system(tmp_path):
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    kinds = {line.split()[1]: line.split()[2] for line in mounts}
    assert storage._file_system(Path("/proc/self")) == "proc"
    assert storage._file_system(Path("/")) == kinds["/"]


def test_a_bucket_is_written_to_before_anything_begins(tmp_path):
    with pytest.raises(ClusterError, match=r"written at nosuch://bucket/mine .*Unrecognized filesystem type"):
        resolve("nosuch://bucket/", tmp_path / "mine", GROWING)


def test_a_bucket_serves_nodes_that_join_later(tmp_path):
    assert resolve("mock://bucket", tmp_path / "mine", GROWING) == "mock://bucket/mine"
    assert resolve("mock://bucket/x/?a=b", tmp_path / "mine", GROWING) == "mock://bucket/x/mine?a=b"


def test_a_folder_written_as_an_address_is_a_folder(tmp_path):
    with pytest.raises(ClusterError, match="Nodes that join later will not see"):
        resolve(f"file://{tmp_path}", tmp_path / "mine", GROWING)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "ledger.jsonl"),
        RuntimeError("Traceback …\n[Errno 28] Error writing. Detail: [errno 28] No space left on device"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "sweep.json"),
    ],
)
def test_a_full_disk_is_told_with_what_to_type_later(error):
    told = r"The disk is full.* Free space, then: sweep --resume mine$"
    with pytest.raises(ClusterError, match=told), full_disk_told("sweep --resume mine"):
        raise error


def test_other_errors_are_left_alone():
    with pytest.raises(PermissionError), full_disk_told("sweep --resume mine"):
        raise PermissionError("no")
