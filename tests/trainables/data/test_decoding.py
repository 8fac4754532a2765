"""One decoder for data sets, scores and requests: what a picture shows is what it becomes."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.files import encoded, picture, write
from trainables.data.decoding import FORMATS, decode, not_square, reason
from trainables.data.sources import load
from trainables.metrics.__main__ import main

LEVELS = np.random.default_rng(0).integers(0, 256, (24, 20), np.uint8)


def tiff(array):
    return encoded(Image.fromarray(array), "TIFF")


@pytest.mark.parametrize(
    ("array", "tolerance"),
    [
        (LEVELS, 0),
        ((LEVELS / 255).astype(np.float32), 0),
        (LEVELS.astype(np.float32), 0),
        (LEVELS.astype(np.uint16) * 257, 0),
        ((LEVELS.astype(np.int32) * 257), 0),
        (LEVELS.astype(np.float32) * 257, 0),
    ],
    ids=["8 bits", "floats to 1", "floats to 255", "16 bits", "32 bits to 65535", "floats to 65535"],
)
def test_levels_of_any_type_become_eight_bits(array, tolerance):
    np.testing.assert_allclose(np.asarray(decode(tiff(array))), LEVELS, atol=tolerance)


def test_floats_that_go_little_beyond_1_are_no_black_picture():
    """As a filter leaves them: of 255 levels they would be the lowest two."""
    with pytest.raises(ValueError, match="in no range that is known"):
        decode(tiff((LEVELS / 255 * 1.01).astype(np.float32)))


@pytest.mark.parametrize("wrong", [-1.0, 70_000.0, np.nan, np.inf])
def test_levels_of_an_unknown_range_are_refused(wrong):
    array = LEVELS.astype(np.float32)
    array[3, 4] = wrong
    with pytest.raises(ValueError, match="in no range that is known"):
        decode(tiff(array))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n(touched) (w) file closefile\nshowpage\n"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_no_other_program_is_started_for_a_file_called_an_image(tmp_path, monkeypatch, name):
    """Pillow runs Ghostscript on an EPS, which the file's content tells it is."""
    started = []
    monkeypatch.setattr(shutil, "which", lambda *a, **k: "/usr/bin/gs")
    for function in ("Popen", "check_call", "call", "run"):
        monkeypatch.setattr(subprocess, function, lambda *a, **k: started.append(a))
    files = {f"good{i}.png": encoded(picture(i)) for i in range(5)} | {name: EPS}
    store = load(write(tmp_path / "set", files), image_size=16, workers=1, cache_dir=tmp_path)
    assert dict(store.manifest["rejects"])[name].startswith("not an image")
    assert started == []


@pytest.mark.parametrize("kind", sorted(FORMATS.keys() - {"AVIF", "JPEG2000"}))
def test_the_named_kinds_are_read(kind):
    assert decode(encoded(picture(1), kind)).size == (20, 20)


def test_reasons_have_one_line_and_no_address():
    for data in (b"text", EPS, encoded(picture(0))[:60]):
        with pytest.raises(Exception) as error:
            decode(data)
        assert "\n" not in reason(error.value) and "0x" not in reason(error.value)


def shown_alike(kind, image):
    """The same picture, written in another way."""
    if kind == "16 bits":
        return encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))
    if kind == "alpha":
        opaque = image.convert("RGBA")
        clear = Image.new("RGBA", image.size, (255, 0, 0, 0))
        opaque.paste(clear.crop((0, 0, 6, 6)), (0, 0, 6, 6))
        return encoded(opaque)
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


def plain(kind, image):
    if kind == "16 bits":
        return encoded(image.convert("L"))
    image = image.copy()
    if kind == "alpha":
        image.paste("white", (0, 0, 6, 6))
    return encoded(image)


@pytest.mark.parametrize("kind", ["16 bits", "alpha", "rotation"])
def test_equal_pictures_are_at_distance_0(tmp_path, capsys, kind):
    pictures = [picture(i, (20, 20)) for i in range(40)]
    folders = [
        write(
            tmp_path / function.__name__, {f"{i:02}.png": function(kind, p) for i, p in enumerate(pictures)}
        )
        for function in (shown_alike, plain)
    ]
    statistics = tmp_path / "real.npz"
    arguments = ["--features", "random", "--threads", "1"]
    assert main([*map(str, folders), *arguments, "--save-real", str(statistics)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("near copies")]
    assert line.split()[2] == "1"
    distances = []
    for folder in folders:
        assert main([str(folder), str(statistics), *arguments]) == 0
        out = capsys.readouterr().out
        distances.append(next(line.split()[1] for line in out.splitlines() if line.startswith("fd_random")))
    assert distances[0] == distances[1]


def test_scores_take_the_files_that_a_data_set_takes(tmp_path, capsys):
    images = {f"{i:02}.png": encoded(picture(i)) for i in range(40)}
    clean = write(tmp_path / "clean", images)
    real = write(tmp_path / "real", {f"{i:02}.png": encoded(picture(i + 100)) for i in range(40)})
    messy = write(
        tmp_path / "messy",
        {name: data for name, data in images.items() if name < "20"}
        | {
            "._00.png": b"\0\5\26\7",
            ".ipynb_checkpoints/00-checkpoint.png": images["00.png"],
            "a.HEIC": b"x",
        },
    )
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", {name: data for name, data in images.items() if name >= "20"})
    (messy / "zz").symlink_to(tmp_path / "elsewhere")
    (messy / "zzz").symlink_to(tmp_path / "elsewhere")
    found = {}
    for folder in (clean, messy):
        assert main([str(folder), str(real), "--features", "random", "--threads", "1"]) == 0
        out = capsys.readouterr().out
        found[folder] = next(line.split()[1] for line in out.splitlines() if line.startswith("fd_random"))
    assert found[clean] == found[messy]
    assert f"{messy}: 1 file ending in .heic ignored, the first a.HEIC" in out


@pytest.mark.parametrize(
    ("size", "crop", "squashed"),
    [
        ((64, 64), None, False),
        ((66, 64), None, False),
        ((68, 64), None, True),
        ((178, 218), None, True),
        ((178, 218), "larsen", False),
        ((178, 218), "square", False),
        ((4000, 3000), "square", False),
        ((4000, 3000), "larsen", True),
    ],
)
def test_what_is_made_square_by_squashing_is_known(size, crop, squashed):
    assert not_square(size, crop) == squashed
