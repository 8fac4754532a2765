"""The step that crops faces, with a detector whose answer is known."""

import numpy as np
from PIL import Image

from tests.fixtures.files import picture
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
    assert [str(name) for name in crop_all(tmp_path / "in", tmp_path / "out", detector)] == ["none.png"]
    crop = Image.open(tmp_path / "out" / "cats" / "a.png")
    np.testing.assert_array_equal(np.asarray(crop), np.asarray(image.crop((2, 17, 38, 53))))
    crop_all(tmp_path / "in", tmp_path / "out", detector)
    assert detector.seen == 3  # the image with a face was not looked at again


def test_a_box_becomes_a_square_with_a_margin():
    assert square((10, 20, 30, 50)) == (2, 17, 38, 53)  # 30 high, times 1.2, around (20, 35)


def test_missing_arguments_are_told(capsys):
    assert main([]) == 2
    assert "give the folder" in capsys.readouterr().err
