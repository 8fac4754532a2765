"""Grids and films hold the images that they were given, in order."""

import numpy as np
from PIL import Image

from trainables.data.pictures import GAP, save_film, save_grid


def levels(n, channels, size=4):
    """Images of one level each: image i is 20·i throughout."""
    return np.broadcast_to(np.arange(n)[:, None, None, None] * 20, (n, size, size, channels)).astype(np.uint8)


def test_a_grid_is_filled_row_by_row_and_enlarged_pixel_by_pixel(tmp_path):
    save_grid(tmp_path / "grid.png", levels(5, 3), columns=3, side=8)
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    step = (4 + GAP) * 2
    assert picture.shape == (2 * step - 2 * GAP, 3 * step - 2 * GAP, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        tile = picture[row * step : row * step + 8, column * step : column * step + 8]
        assert (tile == 20 * i).all()
    assert (picture[step:, 2 * step :] == 0).all()
    assert (picture[8 : 8 + 2 * GAP] == 0).all()


def test_a_grid_of_grey_images_is_grey(tmp_path):
    save_grid(tmp_path / "grid.png", levels(2, 1), columns=2, side=4)
    picture = Image.open(tmp_path / "grid.png")
    assert picture.mode == "L"
    assert np.asarray(picture)[0, 4 + GAP] == 20


def test_a_film_runs_for_ever_through_its_frames(tmp_path):
    save_film(tmp_path / "film.gif", levels(6, 3), side=16, milliseconds=50)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 6
        assert film.size == (16, 16)
        assert film.info["loop"] == 0
        assert film.info["duration"] == 50
        for i in range(6):
            film.seek(i)
            assert abs(int(np.asarray(film.convert("RGB"))[3, 3, 0]) - 20 * i) <= 1
