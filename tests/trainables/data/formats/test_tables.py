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
    "bars": joined("|"),
    "semicolons and decimal commas in a note": joined(";").replace("image_id", "image_id, a file"),
    "an end of each line": joined(",").replace("\n", ",\n") + ",",
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


@pytest.mark.parametrize("remark", ["# made by hand\n", "# of 2026, by A, B and C\n# again\n", ""])
@pytest.mark.parametrize("header", ["name,x\n", "# name,x\n", "#name,x\n"])
def test_remarks_above_a_header_are_no_lines(remark, header):
    table = read_table("t", f"{remark}{header}000001.jpg,5\n000002.jpg,6\n", NAMES)
    assert list(table.columns) == ["x"]
    assert table.values[:2, 0].tolist() == [5, 6]


def test_an_image_may_have_two_lines_that_say_the_same_and_none_that_differ():
    table = read_table("t", "name,x\n000001.jpg,5\n000001.jpg,5\n", NAMES)
    assert table.values[0, 0] == 5
    with pytest.raises(DataError, match="two lines of '000001\\.jpg', which differ"):
        read_table("t", "name,x\n000001.jpg,5\n000001.jpg,6\n", NAMES)


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


def test_an_index_of_numbers_is_not_taken_for_names_without_an_ending():
    names = [f"{i}.png" for i in range(4)]
    for ending in ("", ".jpg"):
        text = ",image_id,Smiling\n" + "".join(f"{k},{3 - k}{ending},{3 - k}\n" for k in range(4))
        table = read_table("t", text, names)
        assert list(table.columns) == ["Smiling"]
        assert table.values[:, 0].tolist() == [0, 1, 2, 3]
    alone = read_table("t", ",Smiling\n0.png,5\n1.png,6\n", names[:2])
    assert alone.values[:, 0].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.png,1\n2.png,-1\n", "has no header: its first line is of the image '1.png'"),
        ("image\n1.png\n2.png\n", "the header of t names the columns 'image'; beside the file name"),
        ("image,a,a\n1.png,1,0\n2.png,1,1\n", "the header of t names the columns 'image, a, a'"),
    ],
)
def test_headers_that_name_no_columns_are_refused(text, message):
    with pytest.raises(DataError, match=message):
        read_table("t", text, ["1.png", "2.png"])


def test_columns_before_the_names_are_told(tmp_path):
    lines = ["Male,image,Smiling", *(f"1,{i:02}.png,1" for i in range(12))]
    write(tmp_path / "set", images(".png") | {"list_attr_celeba.csv": "\n".join(lines).encode()})
    store = load(tmp_path / "set", image_size=16, cache_dir=tmp_path)
    assert list(store.factors) == ["Smiling"]
    assert store.notes == ["the column Male of list_attr_celeba.csv stands before the file names: ignored"]
