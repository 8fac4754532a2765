"""Tables of attributes in every form that programs write them in, matched to the images they speak of."""

import numpy as np
import pytest

from tests.fixtures.files import encoded, picture, write
from trainables.data.formats.tables import read_table, text_of
from trainables.data.sources import load
from trainables.data.store import DataError

NAMES = [f"img/{i:06}.jpg" for i in range(1, 5)]
SMILING = [1, -1, 1, -1]
LINES = [["image_id", "Smiling", "Young"], *([f"{i:06}.jpg", str(SMILING[i - 1]), "1"] for i in range(1, 5))]


def joined(separator, quote=""):
    return "\n".join(separator.join(f"{quote}{cell}{quote}" for cell in line) for line in LINES)


FORMS = {
    "celeba": "4\nSmiling Young \n" + "\n".join("  ".join(line) for line in LINES[1:]),
    "commas": joined(","),
    "commas and spaces": joined(", "),
    "semicolons": joined(";"),
    "tabs": joined("\t"),
    "quotes": joined(",", '"'),
    "quotes and spaces": joined(" ", '"'),
    "blank lines": joined(",").replace("\n", "\r\n\r\n"),
    "byte-order mark": "\ufeff" + joined(","),
    "index as pandas writes it": "\n".join(
        ",".join([str(k - 1) if k else "", *line]) for k, line in enumerate(LINES)
    ),
    "another ending": joined(",").replace(".jpg", ".png"),
    "no ending": joined(",").replace(".jpg", ""),
    "paths": joined(",").replace("00000", "img/00000"),
    "paths of Windows": joined(",").replace("00000", "img\\00000"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_says_the_same_in_each_form(form):
    table = read_table("t", text_of(FORMS[form].encode()), NAMES)
    assert list(table.columns) == ["Smiling", "Young"]
    np.testing.assert_array_equal(table.values, np.stack([SMILING, [1] * 4], 1))
    assert table.matched.all()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_is_read_in_the_encodings_of_spreadsheets(encoding):
    assert text_of(joined(",").encode(encoding)) == joined(",")


def test_paths_tell_files_of_one_name_apart():
    names = ["a/1.jpg", "b/1.jpg"]
    by_path = read_table("t", "name,x\na/1.jpg,3\nb/1.jpg,4\n", names)
    assert by_path.values[:, 0].tolist() == [3, 4]
    by_file = read_table("t", "name,x\n1.jpg,5\n", names)
    assert by_file.values[:, 0].tolist() == [5, 5]


def test_a_line_that_is_empty_in_places_is_unknown_there():
    table = read_table("t", "name,x,y\n000001.jpg,,2\n", NAMES)
    np.testing.assert_array_equal(table.values[0], [np.nan, 2])
    assert table.matched.tolist() == [True, False, False, False]


def images(endings, n=12):
    return {f"{i:02}{endings}": encoded(picture(i)) for i in range(n)}


def test_a_table_that_names_no_image_is_refused(tmp_path):
    table = "Smiling\n" + "\n".join(f"face{i}.jpg 1" for i in range(12))
    folder = write(tmp_path / "set", images(".png") | {"list_attr_celeba.txt": table.encode()})
    with pytest.raises(DataError, match="0 of 12 images are in the table"):
        load(folder, image_size=16, cache_dir=tmp_path)


def test_images_that_a_table_leaves_out_are_counted(tmp_path, caplog):
    table = "image_id,Smiling\n" + "\n".join(f"{i:02}.png,1" for i in range(5))
    folder = write(tmp_path / "set", images(".png") | {"list_attr_celeba.csv": table.encode()})
    store = load(folder, image_size=16, cache_dir=tmp_path)
    assert np.isfinite(store.factors["Smiling"]).sum() == 5
    assert "7 of 12 images are not in the table list_attr_celeba.csv, the first 05.png" in store.notes
    assert "7 of 12 images are not in the table" in caplog.text
