"""Labels of any kind become indices of class names, or are unknown and counted."""

import numpy as np
import pytest

from trainables.data.formats.labels import as_labels


@pytest.mark.parametrize(
    ("raw", "names", "values", "class_names", "note"),
    [
        ([0, 2, 1], (), [0, 2, 1], ["0", "1", "2"], None),
        ([0.0, np.nan, 1.0], (), [0, -1, 1], ["0", "1"], "1 of 3 images have no label"),
        ([0, -1, 1], (), [0, -1, 1], ["0", "1"], "1 of 3 images have no label"),
        ([1, 102, 1], (), [0, 1, 0], ["1", "102"], None),
        ([30, 10, 20, 10], (), [2, 0, 1, 0], ["10", "20", "30"], None),
        ([0, 2, 3], ("a", "b", "c", "d"), [0, 2, 3], ["a", "b", "c", "d"], None),
        (["b", "", "a"], (), [1, -1, 0], ["a", "b"], "1 of 3 images have no label"),
        ([3_000_000_000, 7, 7], (), [1, 0, 0], ["7", "3000000000"], None),
        ([2**60 + 1, 2**60], (), [1, 0], [str(2**60), str(2**60 + 1)], None),
        (
            [0.5, 1.0, np.inf],
            (),
            [-1, 0, -1],
            ["1"],
            "2 of 3 labels are no whole number from 0 on",
        ),
        (
            [0, 1, 2],
            ("no", "yes"),
            [0, 1, -1],
            ["no", "yes"],
            "1 of 3 labels are none of the 2 classes",
        ),
        (["dog", "cat", "dog"], (), [1, 0, 1], ["cat", "dog"], None),
        ([True, False, True], (), [1, 0, 1], ["0", "1"], None),
        ([np.nan, np.nan], (), [-1, -1], [], None),
    ],
)
def test_labels(raw, names, values, class_names, note):
    found = as_labels(np.array(raw), names)
    assert found.values.tolist() == values
    assert found.class_names == class_names
    assert [words.partition(", the first")[0] for words in found.notes] == ([] if note is None else [note])
