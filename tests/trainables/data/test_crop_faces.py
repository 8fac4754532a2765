"""The step that crops faces, with a detector whose answer is known."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.fixtures.files import encoded, picture, write
from trainables.data.crop_faces import crop_all, main, square


class Detector:
    def __init__(self):
        self.seen = 0

    def detect(self, image):
        self.seen += 1
        if image.width < 30:
            return None, [None]
        return np.array([[10.0, 20.0, 30.0, 50.0], [0.0, 0.0, 5.0, 5.0]]), [0.99, 0.5]


def test_the_first_face_is_cropped_once(tmp_path):
    image = picture(0, size=(60, 80))
    (tmp_path / "in" / "cats").mkdir(parents=True)
    image.save(tmp_path / "in" / "cats" / "a.png")
    picture(1, size=(20, 20)).save(tmp_path / "in" / "none.png")
    detector = Detector()
    assert crop_all(tmp_path / "in", tmp_path / "out", detector) == [(Path("none.png"), "no face")]
    crop = Image.open(tmp_path / "out" / "cats" / "a.png")
    np.testing.assert_array_equal(np.asarray(crop), np.asarray(image.crop((2, 17, 38, 53))))
    crop_all(tmp_path / "in", tmp_path / "out", detector)
    assert detector.seen == 3  # the image with a face was not looked at again


def test_a_file_that_is_no_image_ends_nothing(tmp_path):
    whole = encoded(picture(0, size=(60, 80)))
    files = {"._a.png": b"\0", "a.png": whole[:500], "b.png": whole, "b.jpg": whole, "c.png": b""}
    left_out = crop_all(write(tmp_path / "in", files), tmp_path / "out", Detector())
    assert [str(name) for name, _ in left_out] == ["a.png", "c.png"] and all(why for _, why in left_out)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.jpg.png", "b.png.png"]


def test_a_camera_s_turn_is_followed(tmp_path):
    image = picture(0, size=(80, 60))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    write(tmp_path / "in", {"a.png": encoded(image, exif=exif)})
    crop_all(tmp_path / "in", tmp_path / "out", Detector())
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270).crop((2, 17, 38, 53)))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), upright)


def test_a_box_becomes_a_square_with_a_margin():
    assert square((10, 20, 30, 50)) == (2, 17, 38, 53)  # 30 high, times 1.2, around (20, 35)


def test_missing_arguments_are_told(capsys):
    assert main([]) == 2
    assert "give the folder" in capsys.readouterr().err
