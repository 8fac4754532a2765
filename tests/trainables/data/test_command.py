"""`python -m trainables.data`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.files import classes, write
from trainables.data.__main__ import main
from trainables.data.sources import load

ROOT = Path(__file__).parents[3]


def test_convert_info_verify_and_publish(tmp_path, capsys):
    write(tmp_path / "pets", classes() | {"cats/bad.png": b"text"})
    cache = f"--cache-dir={tmp_path}/cache"
    assert main(["convert", f"{tmp_path}/pets", "--image-size", "16", cache]) == 0
    report = capsys.readouterr().out
    assert "pets: 40 of 16×16×3" in report
    assert "cats 20, dogs 20" in report
    assert "cats/bad.png: not an image" in report
    (path,) = (tmp_path / "cache").glob("*.arrow")

    assert main(["info", str(path), "--sheet", f"{tmp_path}/sheet.png"]) == 0
    assert capsys.readouterr().out == report
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    images = load(path, image_size=16).images
    np.testing.assert_array_equal(sheet[:16, :16], images[0])
    np.testing.assert_array_equal(sheet[-16:, -16:], images[-1])

    assert main(["verify", str(path)]) == 0
    assert "40 images, none damaged" in capsys.readouterr().out
    assert main(["publish", str(path), f"file://{tmp_path}/shared/pets.arrow"]) == 0
    uri = capsys.readouterr().out.split()[-1]
    assert load(uri, image_size=16, cache_dir=tmp_path / "node").images.shape == images.shape
    assert main(["publish", str(path), f"{tmp_path}/own disk/pets.arrow"]) == 0
    uri = capsys.readouterr().out.split()[-1]
    assert uri.startswith(f"file://{tmp_path}/own%20disk/pets.arrow#")
    assert load(uri, image_size=16, cache_dir=tmp_path / "node").images.shape == images.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["convert", "no such set"],
            "there is no data set or path 'no such set'; choose faces, minifigures, drawn-digits, celeba",
        ),
        (["convert", "faces", "--image-size", "3"], "image_size is 3; choose 8 to 1024"),
        (["convert", "faces", "--workers", "-4"], "the number of workers is -4; choose 1 or more"),
        (["convert", "faces", "--channels", "0"], "channels is 0; choose 3 (RGB) or 1"),
        (["info", "no.arrow"], "there is no store 'no.arrow'"),
        (["verify", "gs:/x"], "there is no store 'gs:/x'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["bogus"], ["convert"], ["convert", "faces", "--crop", "middle"]])
def test_wrong_flags_exit_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_data_needs_neither_ray_nor_mlflow_nor_torch():
    """The command starts fast, and runs where there is only what it uses."""
    code = (
        "import sys; import trainables.data.__main__; "
        "print([m for m in ('ray', 'mlflow', 'torch', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["no folder/sheet.png", "sheet", "sheet.xyz"])
def test_a_sheet_that_cannot_be_written_is_told(tmp_path, capsys, name):
    write(tmp_path / "pets", classes())
    path = load(tmp_path / "pets", image_size=16, cache_dir=tmp_path / "cache").path
    assert main(["info", str(path), "--sheet", str(tmp_path / name)]) == 2
    assert "can't be written (" in capsys.readouterr().err
