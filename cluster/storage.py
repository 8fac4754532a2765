"""Decides where checkpoints and Tune's snapshots go, and refuses places that not every node can reach."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs

from cluster.connect import Cluster, ask_nodes
from cluster.errors import ClusterError
from trainables.data.addresses import below
from trainables.data.catalogue import NAMES

ADVICE = "name a folder that all nodes share (NFS), s3://bucket/folder or gs://bucket/folder with --storage"
READ_ADVICE = (
    "put it where all nodes see it (NFS); images may lie in a bucket, too: "
    "python -m trainables.data convert --output s3://bucket/folder …"
)
FULL = ("No space left on device", "Disk quota exceeded")  # an error's text is all that libraries keep of it
NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "ceph",
    "lustre",
    "gluster",
    "beegfs",
    "gpfs",
    "afs",
    "9p",
    "fuse",
)


def resolve(storage: str | None, folder: Path, cluster: Cluster) -> str:
    """Return where a sweep keeps its checkpoints: `<storage>/<name>`, or `folder` where no storage is given.

    Raises ClusterError where nothing can be written there, and where a node does not see what this one
    writes: a trial that moves to it would not find its checkpoint.
    """
    storage = storage and storage.removeprefix("file://")
    if storage and "://" in storage:
        uri = below(storage, folder.name)
        opened(uri)
        return uri
    path = (Path(storage).expanduser() / folder.name if storage else folder).resolve()
    marker = path / f".seen-by-all-{secrets.token_hex(4)}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise ClusterError(f"Nothing can be written in {path} ({error.strerror})") from error
    try:
        _refuse_unshared(marker, path, cluster, ADVICE)
    finally:
        marker.unlink()
    return str(path)


@contextlib.contextmanager
def full_disk_told(resume: str) -> Iterator[None]:
    """Raise ClusterError for what libraries raise on a full disk or quota; `resume`: the command to go on."""
    try:
        yield
    except Exception as error:
        if not any(full in str(error) for full in FULL):
            raise
        raise ClusterError(
            f"The disk is full, the sweep has ended, and what it recorded is kept. Free space, then: {resume}"
        ) from error


def refuse_unseen(place: str, cluster: Cluster) -> None:
    """Raise ClusterError where what trials read is a path on this machine that some node does not see.

    A data set's known name is none, also where a folder is called so.
    """
    path = Path(place).expanduser()
    if place not in NAMES and os.path.exists(path):  # Path's method raises for what can be no file's name
        _refuse_unshared(path.resolve(), path, cluster, READ_ADVICE)


def _refuse_unshared(path: Path, called: Path, cluster: Cluster, advice: str) -> None:
    """Raise ClusterError, naming `called`, where a node does not see a path, or a later one would not."""
    if cluster.nodes > 1:

        def sees(folder: str, name: str) -> bool:
            import os  # this function runs on the nodes

            # A listing makes NFS look anew, where a question about one file may be answered from its cache.
            return name in os.listdir(folder) if os.path.isdir(folder) else False

        blind = [node for node, seen in ask_nodes(sees, str(path.parent), path.name).items() if not seen]
        if blind:
            who = f"{', '.join(blind)} {'does' if len(blind) == 1 else 'do'}"
            raise ClusterError(f"Trials run on {cluster.nodes} nodes, and {who} not see {called}: {advice}")
    elif len(cluster.promised) > 1 and not _file_system(path).startswith(NETWORK_FILE_SYSTEMS):
        raise ClusterError(f"Nodes that join later will not see {called}, which is this machine's: {advice}")


def _file_system(path: Path) -> str:
    """Return the type of the file system that holds a path; "unknown" where there is no /proc."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    holding = [(point, kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]


def opened(place: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the file system of a folder or a bucket's address, and the path there.

    Raises ClusterError where no object can be written and deleted in it.
    """
    uri = place if "://" in place else str(Path(place).expanduser().resolve())
    try:
        file_system, path = pyarrow.fs.FileSystem.from_uri(uri)
        file_system.create_dir(path)
        name = f"{path}/.can-be-written-{secrets.token_hex(4)}"
        with file_system.open_output_stream(name) as stream:
            stream.write(b"x")
        file_system.delete_file(name)
        return file_system, path
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ClusterError(f"Nothing can be written at {uri} ({reason})") from error
