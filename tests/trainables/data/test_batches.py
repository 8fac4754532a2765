"""Batches: each image once an epoch, in an order and with flips that the seed and the epoch alone decide."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.data.test_store import made
from trainables.data.batches import Batches, to_float, to_uint8
from trainables.data.store import DataError, ImageStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("batches") / "s.arrow"
    made(path, n=100, size=8)
    return ImageStore(path)


@settings(max_examples=30, deadline=None)
@given(batch_size=st.integers(1, 20), seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_an_epoch_shows_each_image_once(store, batch_size, seed, epoch):
    batches = Batches(store, "train", batch_size, seed=seed, drop_last=False)
    rows = list(batches.rows(epoch))
    assert sorted(np.concatenate(rows)) == store.split("train").tolist()
    assert [len(part) for part in rows[:-1]] == [batch_size] * (len(batches) - 1)
    for part, images in zip(rows, batches.epoch(epoch), strict=True):
        assert images.shape == (len(part), 3, 8, 8)
        expected = store.images[part].transpose(0, 3, 1, 2) / 127.5 - 1
        np.testing.assert_allclose(images.numpy(), expected, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(batch_size=st.integers(1, 20), steps=st.integers(1, 60), drop_last=st.booleans())
def test_epochs_of_a_number_of_steps_are_the_passes_one_after_another(store, batch_size, steps, drop_last):
    whole = Batches(store, "train", batch_size, seed=3, drop_last=drop_last)
    parts = Batches(store, "train", batch_size, seed=3, drop_last=drop_last, steps=steps)
    assert len(parts) == steps
    passes = [row.tolist() for number in range(2 * steps // len(whole) + 1) for row in whole.rows(number)]
    assert [row.tolist() for row in parts.rows(0)] == passes[:steps]
    assert [row.tolist() for row in parts.rows(1)] == passes[steps : 2 * steps]


def test_whole_batches_alone_where_the_last_is_dropped(store):
    batches = Batches(store, "train", 7)
    assert len(batches) == len(store.split("train")) // 7
    assert [len(x) for x in batches.epoch(0)] == [7] * len(batches)


def test_order_and_flips_depend_on_seed_and_epoch_alone(store):
    def epoch(seed, number):
        return torch.cat(list(Batches(store, "train", 5, seed=seed, flip=True).epoch(number)))

    one = Batches(store, "train", 5, seed=1, flip=True)
    list(one.epoch(0))
    assert torch.equal(torch.cat(list(one.epoch(3))), epoch(1, 3))
    assert not torch.equal(epoch(1, 3), epoch(1, 4))
    assert not torch.equal(epoch(1, 3), epoch(2, 3))


def test_half_of_the_images_are_mirrored(store):
    plain = Batches(store, "train", 5, seed=1)
    flipped = Batches(store, "train", 5, seed=1, flip=True)
    mirrored = total = 0
    for number in range(40):
        for x, y in zip(plain.epoch(number), flipped.epoch(number), strict=True):
            same = (x == y).flatten(1).all(1)
            assert ((x.flip(3) == y).flatten(1).all(1) | same).all()
            mirrored, total = mirrored + int((~same).sum()), total + len(x)
    assert abs(mirrored / total - 0.5) < 4 * 0.5 / np.sqrt(total)


def test_labels_are_those_of_the_images(store):
    batches = Batches(store, "train", 5, seed=3)
    by_content = {image.tobytes(): label for image, label in zip(store.images, store.labels, strict=True)}
    for images, labels in batches.labeled(2):
        for image, label in zip(to_uint8(images).numpy(), labels.tolist(), strict=True):
            assert by_content[image.tobytes()] == label


def test_a_limit_takes_the_seeds_choice(store):
    chosen = Batches(store, "train", 5, seed=1, limit=12).selected
    assert len(set(chosen)) == 12 and set(chosen) <= set(store.split("train"))
    assert chosen.tolist() == Batches(store, "train", 5, seed=1, limit=12).selected.tolist()
    assert chosen.tolist() != Batches(store, "train", 5, seed=2, limit=12).selected.tolist()


@pytest.mark.parametrize("batch_size", [0, 1000])
def test_a_batch_size_that_gives_no_batch_is_refused(store, batch_size):
    with pytest.raises(DataError, match=f"no batch of {batch_size}; choose a batch size of "):
        Batches(store, "train", batch_size)


def test_a_batch_stays_what_it_is_while_anything_refers_to_it(store):
    epoch = Batches(store, "train", 3).epoch(0)
    batch = next(epoch)
    kept, copy = batch[1:, :, 2:], batch[1:, :, 2:].clone()
    address = batch.data_ptr()
    del batch
    others = {x.data_ptr() for x in epoch}
    assert torch.equal(kept, copy)
    assert address not in others
    assert len(others) <= 2  # memory is used again, or each batch would pay for fresh pages


def test_memory_is_used_again_when_a_batch_is_gone(store, monkeypatch):
    taken = []
    empty = np.empty
    batches = Batches(store, "train", 3)
    assert len(batches) == 10

    def counted(shape, dtype=float, *a, **k):
        if dtype in (np.uint8, np.float32):  # others are NumPy's own, for an order of images
            taken.append(shape)
        return empty(shape, dtype, *a, **k)

    monkeypatch.setattr(np, "empty", counted)
    for epoch in range(2):
        for _ in batches.epoch(epoch):
            pass
    assert len(taken) <= 4  # levels and floats of two batches, the one at hand and the next


def test_levels_survive_the_way_to_float_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    x = to_float(levels)
    assert (x.min(), x.max()) == (-1, 1)
    assert torch.equal(to_uint8(x), levels)
    assert to_uint8(torch.tensor([[[[-7.0, 0.0, 7.0]]]])).flatten().tolist() == [0, 128, 255]


def test_the_store_is_never_written_to(store):
    before = store.images.copy()
    for x in Batches(store, "train", 5, flip=True).epoch(0):
        x.zero_()
    np.testing.assert_array_equal(store.images, before)


@pytest.mark.parametrize(("free", "resident"), [(10_000_000, True), (10_000, False)])
def test_a_gpu_gives_the_same_batches(store, gpu, free, resident, monkeypatch):
    """The set lies in its memory where it takes half of what is free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    cpu = torch.cat(list(Batches(store, "train", 5, seed=1, flip=True).epoch(2)))
    batches = Batches(store, "train", 5, seed=1, flip=True, device="cuda")
    assert (batches._resident is not None) == resident
    given = list(batches.epoch(2))
    assert all(batch.is_cuda for batch in given)
    assert torch.equal(cpu, torch.cat(given).cpu())


def test_the_next_trial_in_a_process_finds_the_images_in_the_gpus_memory(store, gpu, monkeypatch):
    """Which is full by then: of them, and of what torch keeps of the last trial."""
    sizes = {"mem_get_info": (10_000_000, 10_000_000), "memory_reserved": 0, "memory_allocated": 0}
    for name in sizes:
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: sizes[name])
    first = Batches(store, "train", 5, device="cuda")
    sizes["mem_get_info"] = (1_000, 10_000_000)
    second = Batches(store, "train", 8, seed=1, device="cuda", before=first)
    assert second._resident is first._resident is not None
    assert Batches(store, "train", 5, device="cuda", limit=20, before=first)._resident is None
    sizes |= {"memory_reserved": 9_000_000, "memory_allocated": 100_000}
    assert Batches(store, "train", 5, device="cuda", limit=20, before=first)._resident is not None
