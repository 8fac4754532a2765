"""Splits by content, and classes from folders."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainables.data.decoding import Preprocessing, decode, fit, identity
from trainables.data.formats.containers import Listing
from trainables.data.formats.layout import arrange, complete_splits
from trainables.data.formats.readers import FileReader
from trainables.data.store import DataError

identities = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=300).map(
    lambda values: np.array(values, np.uint64)
)


@settings(deadline=None, max_examples=40)
@given(identities)
def test_all_splits_are_filled_and_copies_stay_together(values):
    splits = complete_splits(None, values)
    distinct = len(np.unique(values))
    assert len(np.unique(splits)) == min(3, distinct)
    for value in np.unique(values):
        assert len(set(splits[values == value])) == 1


@pytest.mark.parametrize("share", [0.05, 0.85, 0.95])
@pytest.mark.parametrize("distinct", [1, 2, 3, 4])
def test_no_split_takes_all_of_a_small_set(share, distinct):
    values = np.array([int(share * 2**64) + k for k in range(distinct)], np.uint64)
    assert len(np.unique(complete_splits(None, values))) == min(3, distinct)


@pytest.mark.parametrize("seed", range(30))
def test_a_small_set_has_two_images_to_compare(seed):
    """25 photos had one to hold out in a quarter of cases, which a sweep refuses."""
    for n in (5, 6, 7, 25):
        values = np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)
        train, validation, test = np.bincount(complete_splits(None, values), minlength=3)
        assert train >= 2 and validation >= 2 and test >= (2 if n == 25 else 1)


@settings(deadline=None, max_examples=40)
@given(identities, st.randoms(use_true_random=False))
def test_order_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    np.testing.assert_array_equal(complete_splits(None, values[order]), complete_splits(None, values)[order])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32))
def test_a_tenth_each_is_held_out(seed):
    values = np.random.default_rng(seed).integers(0, 2**64, 20_000, np.uint64)
    share = np.bincount(complete_splits(None, values)) / len(values)
    np.testing.assert_allclose(share, [0.8, 0.1, 0.1], atol=5 * np.sqrt(0.8 * 0.2 / 20_000))


@settings(deadline=None, max_examples=40)
@given(identities, st.data())
def test_what_the_source_says_stays(values, data):
    given = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(values), max_size=len(values))))
    before = given.astype(np.uint8)
    after = complete_splits(before, values)
    assert (after[before != 0] == before[before != 0]).all()
    np.testing.assert_array_equal(before, given)  # the source's own array is not written to
    if {1, 2} <= set(before.tolist()):
        np.testing.assert_array_equal(after, before)


names = st.lists(
    st.lists(st.sampled_from(["a", "b", "ç"]), min_size=0, max_size=3), min_size=1, max_size=12
).map(lambda folders: sorted("/".join([*parts, f"{i}.png"]) for i, parts in enumerate(folders)))


@settings(deadline=None, max_examples=40)
@given(names, st.sampled_from(["", "set/", "deep/er/"]))
def test_labels_are_the_first_folders_that_differ(names, above):
    files = [above + name for name in names]
    source = arrange("set", Listing(files, FileReader("/nowhere", files), []))
    assert list(source.names) == files
    if source.class_names:
        assert list(source.class_names) == sorted(set(source.class_names))
        assert set(source.labels) - {-1} == set(range(len(source.class_names)))
        for file, label in zip(files, source.labels, strict=True):
            folders = file.split("/")[:-1]
            if label == -1:  # it lies beside the class folders
                assert not set(folders) & set(source.class_names) - {"a", "b", "ç"} and source.notes
            else:
                assert source.class_names[label] in folders
    else:
        assert (source.labels == -1).all()
    # What lies above all of them makes no difference.
    alone = arrange("set", Listing(names, FileReader("/nowhere", names), []))
    assert list(alone.class_names) == list(source.class_names)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(8, 40),
    st.integers(8, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([8, 16, 33]),
    st.sampled_from([None, "square", "larsen"]),
    st.integers(0, 255),
)
def test_a_plain_picture_stays_plain(width, height, channels, size, crop, level):
    array = np.full((height, width, channels), level, np.uint8)
    got = fit(decode(array), Preprocessing(size, channels, crop))
    assert got.shape == (size, size, channels)
    assert (got == level).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 32), st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_a_picture_of_the_wanted_size_is_not_touched(size, channels, seed):
    array = np.random.default_rng(seed).integers(0, 256, (size, size, channels), np.uint8)
    np.testing.assert_array_equal(fit(decode(array), Preprocessing(size, channels)), array)


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=1), st.binary(min_size=1))
def test_identities_differ_where_contents_do(a, b):
    assume(a != b)
    assert identity(a) == identity(bytes(bytearray(a)))
    assert identity(a) != identity(b)


@pytest.mark.parametrize("size", [7, 1025, 0, -1])
def test_sizes_out_of_range(size):
    with pytest.raises(DataError, match=f"image_size is {size}; choose 8 to 1024"):
        Preprocessing(size)
