"""Conversion: the same store in parallel, after kills and on a disk that fills up."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.files import classes, encoded, picture, write
from trainables.data import conversion, sources
from trainables.data.conversion import convert
from trainables.data.decoding import Preprocessing
from trainables.data.formats.layout import Source
from trainables.data.sources import load
from trainables.data.store import DataError

ROOT = Path(__file__).parents[3]


class Images:
    """A reader of random images; each seventh is broken. `error` is raised at the image `interrupt`."""

    def __init__(self, rows, interrupt=None, error=KeyboardInterrupt):
        self.rows, self.interrupt, self.error = list(rows), interrupt, error

    def __len__(self):
        return len(self.rows)

    def read(self, i):
        row = self.rows[i]
        if row == self.interrupt:
            raise self.error
        return b"broken" if row % 7 == 3 else np.random.default_rng(row).integers(0, 256, (9, 9, 3), np.uint8)

    def part(self, rows):
        return Images([self.rows[i] for i in rows], self.interrupt, self.error)


def source(n, *interrupt):
    labels = np.arange(n)
    return Source("set", Images(range(n), *interrupt), [f"image {i}" for i in range(n)], labels)


def run(folder, n, interrupt=None, error=KeyboardInterrupt, **options):
    options = {"workers": 1, "key": "k"} | options
    paths = (folder / "set.arrow", folder / "set.work")
    return convert(source(n, interrupt, error), Preprocessing(8), *paths, name="set", **options)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(conversion, "CHUNK", 8)


def test_labels_and_rejects_stay_with_their_images(tmp_path, small_chunks):
    store = run(tmp_path, 50)
    kept = [i for i in range(50) if i % 7 != 3]
    assert store.labels.tolist() == kept
    assert [name for name, _ in store.manifest["rejects"]] == [f"image {i}" for i in range(50) if i % 7 == 3]
    assert store.manifest["rejected"] == 50 - len(kept)
    store.verify()
    assert not (tmp_path / "set.work").exists()


def test_other_processes_give_the_same_store(tmp_path, small_chunks, monkeypatch):
    alone = load(write(tmp_path / "set", classes(60)), image_size=16, cache_dir=tmp_path / "1", workers=1)
    monkeypatch.setattr(conversion, "PARALLEL_AFTER", 0.0)
    together = load(tmp_path / "set", image_size=16, cache_dir=tmp_path / "2", workers=2)
    assert together.content_hash == alone.content_hash


def test_a_script_without_a_main_guard_may_convert_in_parallel(tmp_path):
    write(tmp_path / "set", classes(30))
    script = tmp_path / "script.py"
    script.write_text(
        "from trainables.data import conversion, sources\n"
        "conversion.CHUNK, conversion.PARALLEL_AFTER = 8, 0.0\n"
        f"store = sources.load({str(tmp_path / 'set')!r}, image_size=16, cache_dir='cache', workers=2)\n"
        "print(len(store))\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert (done.stdout, done.stderr) == ("30\n", "")


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@cache
def whole():
    return run(Path(tempfile.mkdtemp()), 60)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_work_that_was_cut_off_anywhere_is_gone_on_with(tmp_path_factory, data):
    """What a kill, or a power cut that lost some of each file's end, may leave."""
    folder, before = tmp_path_factory.mktemp("work"), conversion.CHUNK
    conversion.CHUNK = 8
    try:
        with pytest.raises(KeyboardInterrupt):
            run(folder, 60, interrupt=data.draw(st.integers(1, 59), label="interrupt"))
        for name in ("journal", "pixels", "rows"):
            file = folder / "set.work" / name
            content = file.read_bytes()
            kept = data.draw(st.integers(0, len(content)) | st.just(len(content)), label=name)
            garbage, zeros = st.binary(max_size=30), st.just(bytes(len(content) - kept))
            tail = data.draw(garbage | zeros, label="tail") if name != "journal" else b""
            file.write_bytes(content[:kept] + tail)
        resumed = run(folder, 60)
        assert resumed.manifest == whole().manifest
        np.testing.assert_array_equal(resumed.images, whole().images)
    finally:
        conversion.CHUNK = before
        shutil.rmtree(folder)


def test_what_is_done_is_not_done_again(tmp_path, small_chunks):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 60, interrupt=43)
    resumed = run(tmp_path, 60, interrupt=39)  # the chunk from 40 on is the first that is not done
    assert len(resumed) == sum(i % 7 != 3 for i in range(60))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_a_disk_s_failure_is_no_image_s(tmp_path, small_chunks, number):
    """Else the store would lack images for ever that can be read an hour later."""
    with pytest.raises(OSError, match=os.strerror(number)):
        run(tmp_path, 60, interrupt=43, error=OSError(number, os.strerror(number)))
    assert len(run(tmp_path, 60)) == sum(i % 7 != 3 for i in range(60))


def test_want_of_memory_is_told_and_what_is_done_is_kept(tmp_path, small_chunks):
    with pytest.raises(DataError, match="perhaps for want of memory; start again, what is done is kept"):
        run(tmp_path, 60, interrupt=43, error=MemoryError())
    resumed = run(tmp_path, 60, interrupt=39)
    assert len(resumed) == sum(i % 7 != 3 for i in range(60))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EPERM])
def test_a_file_that_is_locked_or_gone_is_left_out(tmp_path, number):
    store = run(tmp_path, 20, interrupt=5, error=OSError(number, os.strerror(number)))
    assert ["image 5", os.strerror(number)] in store.manifest["rejects"]


def test_other_settings_start_anew(tmp_path, small_chunks):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 60, interrupt=43)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 60, interrupt=39, key="other")


def test_killed_again_and_again_it_ends_with_the_whole_set(tmp_path):
    files = {f"{i:04}.png": encoded(picture(i, size=(300, 300))) for i in range(72)}
    write(tmp_path / "set", files)
    script = (
        "from trainables.data import conversion, sources\n"
        "conversion.CHUNK = 4\n"
        f"sources.load({str(tmp_path / 'set')!r}, image_size=32, cache_dir='cache', workers=1)\n"
    )
    journal_lines = []
    for _ in range(40):
        process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment())
        started = len(journal_lines) and journal_lines[-1]
        while process.poll() is None:
            lines = 0
            for journal in (tmp_path / "cache").glob("*.work/journal"):
                with contextlib.suppress(FileNotFoundError):  # it has just finished
                    lines = journal.read_bytes().count(b"\n")
            if lines >= started + 6:
                process.send_signal(signal.SIGKILL)
                process.wait()
                journal_lines.append(lines)
                break
            time.sleep(0.001)
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert len(journal_lines) >= 2, "it was never killed"
    assert journal_lines == sorted(journal_lines)
    killed = load(tmp_path / "set", image_size=32, cache_dir=tmp_path / "cache")
    whole = load(tmp_path / "set", image_size=32, cache_dir=tmp_path / "other", workers=1)
    assert killed.content_hash == whole.content_hash
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".arrow", ".lock"]


def test_who_comes_second_waits_for_the_first(tmp_path, monkeypatch):
    calls, stores = [], []

    def counted(*args, **kwargs):
        calls.append(1)
        time.sleep(0.3)
        return convert(*args, **kwargs)

    monkeypatch.setattr(sources, "convert", counted)
    folder = write(tmp_path / "set", classes())
    threads = [
        threading.Thread(
            target=lambda: stores.append(load(folder, image_size=16, cache_dir=tmp_path / "cache"))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len({store.content_hash for store in stores}) == 1 and len(stores) == 3


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_too_small_a_disk_is_refused_before_work_starts(tmp_path, small_disk):
    folder = write(tmp_path / "set", classes(60))
    with pytest.raises(DataError, match=r"takes 6 MB in .*disk, where 1 MB are free; free some, or name"):
        load(folder, image_size=128, cache_dir=small_disk)


def test_a_conversion_that_goes_on_needs_room_for_the_whole_store(tmp_path, small_chunks, monkeypatch):
    """The pixels that are still to be decoded, and all of them in the store."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 60, interrupt=43)
    asked = []
    monkeypatch.setattr(conversion, "check_room", lambda folder, needed, name: asked.append(needed))
    run(tmp_path, 60)
    each = 8 * 8 * 3 + conversion.ROW.itemsize
    assert asked == [(60 - 40) * each + 60 * each]


def test_a_disk_that_becomes_full_keeps_what_is_done(tmp_path, small_disk, small_chunks, monkeypatch):
    folder = write(tmp_path / "set", classes(60))
    monkeypatch.setattr(conversion, "check_room", lambda *_: None)
    with pytest.raises(
        DataError, match=r"disk of .*disk became full while set was converted; free some space"
    ):
        load(folder, image_size=128, cache_dir=small_disk)
    assert not list(small_disk.glob("*.arrow*"))
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    after = load(folder, image_size=128, cache_dir=small_disk)
    assert after.content_hash == load(folder, image_size=128, cache_dir=tmp_path / "cache").content_hash


def test_progress_goes_to_stderr_only_when_asked(tmp_path, capsys):
    run(tmp_path, 20)
    assert capsys.readouterr() == ("", "")
    (tmp_path / "b").mkdir()
    run(tmp_path / "b", 20, progress=True)
    out, error = capsys.readouterr()
    assert out == ""
    assert "Converting set to 8×8" in error and "20/20" in error


def marked(mark):
    """The processes whose environment holds a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to see processes")
def test_decoding_processes_end_when_their_parent_is_killed(tmp_path):
    write(tmp_path / "set", {f"{i:04}.png": encoded(picture(i, size=(300, 300))) for i in range(80)})
    script = (
        "from trainables.data import conversion, sources\n"
        "conversion.CHUNK, conversion.PARALLEL_AFTER = 1, 0.0\n"
        f"sources.load({str(tmp_path / 'set')!r}, image_size=32, cache_dir='cache', workers=2)\n"
    )
    mark = f"TEST_MARK={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment() | {"TEST_MARK": str(tmp_path)}
    )
    while process.poll() is None and len(marked(mark)) < 3:
        time.sleep(0.01)
    assert process.returncode is None, "it ended before its workers were seen"
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(mark) == []


def test_large_images_are_decoded_few_at_a_time(tmp_path, monkeypatch):
    folder = write(tmp_path / "folder", classes())
    whole = load(folder, image_size=16, cache_dir=tmp_path / "1")
    sizes, convert = [], conversion.convert_chunk
    monkeypatch.setattr(conversion, "CHUNK_BYTES", 7 * 16 * 16 * 3)
    monkeypatch.setattr(
        conversion, "convert_chunk", lambda reader, how: (sizes.append(len(reader)), convert(reader, how))[1]
    )
    assert load(folder, image_size=16, cache_dir=tmp_path / "2").content_hash == whole.content_hash
    assert max(sizes) == 7 and sum(sizes) == len(whole)
