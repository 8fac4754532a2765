import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import frechet_distance
from trainables.metrics.reference import KEPT_FEATURES, ReferenceStatistics, reference_statistics
from trainables.metrics.statistics import Identity


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), np.uint8)


class Counted:
    """An extractor that counts its images."""

    def __init__(self, extractor):
        self.extractor, self.seen = extractor, 0
        self.name, self.identity = extractor.name, extractor.identity

    def __call__(self, batch):
        self.seen += len(batch)
        return self.extractor(batch)


@pytest.fixture
def extractor():
    return Counted(load_extractor("random"))


def test_statistics_are_those_of_the_features(extractor):
    x = images(200)
    reference = reference_statistics(x, extractor, cache_dir=None, key="x")
    features = load_extractor("random")(x)
    assert reference.n == 200
    assert reference.identity == extractor.identity
    np.testing.assert_allclose(reference.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(reference.covariance, np.cov(features, rowvar=False), atol=1e-14)
    np.testing.assert_allclose(reference.factor @ reference.factor.T, reference.covariance, atol=1e-14)
    assert frechet_distance(features, reference) == 0


def test_batches_and_arrays_give_the_same(extractor):
    x = images(300)
    whole = reference_statistics(x, extractor, cache_dir=None, key="x")
    cut = reference_statistics((x[i : i + 7] for i in range(0, 300, 7)), extractor, cache_dir=None, key="x")
    np.testing.assert_allclose(cut.covariance, whole.covariance, atol=1e-14)
    np.testing.assert_allclose(cut.features, whole.features, atol=1e-6)
    assert cut.kernel_mean == pytest.approx(whole.kernel_mean, rel=1e-6)


def test_a_random_part_of_many_features_is_kept(extractor):
    x = np.repeat(np.repeat(np.arange(5000) * 255 // 4999, 12).reshape(5000, 2, 2, 3).astype(np.uint8), 2, 1)
    reference = reference_statistics(x, extractor, cache_dir=None, key="ramp")
    assert reference.n == 5000
    assert reference.features.shape == (KEPT_FEATURES, 64)
    standard_error = np.sqrt(np.diag(reference.covariance) / KEPT_FEATURES)
    assert (np.abs(reference.features.mean(0) - reference.mean) < 4 * standard_error + 1e-6).all()


def test_it_is_computed_once_for_a_key_and_an_identity(tmp_path, extractor):
    x = images(50)
    first = reference_statistics(x, extractor, cache_dir=tmp_path, key="faces/train: 1")
    assert extractor.seen == 50
    again = reference_statistics(iter(()), extractor, cache_dir=tmp_path, key="faces/train: 1")
    assert extractor.seen == 50
    for name in ("n", "identity", "kernel_mean"):
        assert getattr(again, name) == getattr(first, name)
    for name in ("mean", "covariance", "factor", "features"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    reference_statistics(x, extractor, cache_dir=tmp_path, key="faces/train: 2")
    assert extractor.seen == 100
    extractor.identity = Identity("random", "seed-0", "another resize")
    reference_statistics(x, extractor, cache_dir=tmp_path, key="faces/train: 1")
    assert extractor.seen == 150


def test_a_damaged_file_is_computed_anew(tmp_path, extractor):
    x = images(50)
    first = reference_statistics(x, extractor, cache_dir=tmp_path, key="x")
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    again = reference_statistics(x, extractor, cache_dir=tmp_path, key="x")
    np.testing.assert_array_equal(again.mean, first.mean)
    assert ReferenceStatistics.load(path).n == 50


def _compute_in_a_process(cache_dir, log):
    counted = Counted(load_extractor("random", threads=1))
    reference = reference_statistics(images(400), counted, cache_dir=cache_dir, key="x")
    with open(log, "a") as file:
        file.write(f"{counted.seen} {reference.n}\n")


def test_concurrent_processes_compute_once(tmp_path):
    context, log = get_context("spawn"), tmp_path / "log"
    processes = [
        context.Process(target=_compute_in_a_process, args=(tmp_path / "cache", log)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(log.read_text().split("\n")[:-1]) == ["0 400", "400 400"]
    assert len(list((tmp_path / "cache").glob("*.npz*"))) <= 2  # the file and its lock: nothing half-written


def test_concurrent_threads_compute_once(tmp_path, extractor):
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(reference_statistics, images(100), extractor, cache_dir=tmp_path, key="x")
            for _ in range(4)
        ]
        assert {job.result().n for job in jobs} == {100}
    assert extractor.seen == 100


def test_a_write_that_fails_leaves_nothing(tmp_path, extractor, monkeypatch):
    reference = reference_statistics(images(20), extractor, cache_dir=None, key="x")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        reference.save(tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []


def test_files_of_pytorch_fid_are_read_and_written(tmp_path, extractor):
    import trainables.torchvision_shim  # noqa: F401  before torchvision, which pytorch_fid imports

    # isort: split
    from pytorch_fid.fid_score import compute_statistics_of_path

    x = images(300)
    features = extractor(x)
    path = tmp_path / "peer.npz"
    np.savez_compressed(path, mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    peer = ReferenceStatistics.load(path)
    assert peer.n is None
    assert peer.identity is None
    assert frechet_distance(features, peer) < 1e-9
    ours = tmp_path / "ours.npz"
    reference_statistics(x, extractor, cache_dir=None, key="x").save(ours)
    mean, covariance = compute_statistics_of_path(str(ours), None, 1, 64, "cpu")
    np.testing.assert_allclose(mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features, rowvar=False), atol=1e-14)


GOOD = {"mu": np.zeros(2), "sigma": np.eye(2)}


def test_bad_input_is_refused(tmp_path, extractor):
    with pytest.raises(ValueError, match="no image"):
        reference_statistics(images(0), extractor, cache_dir=tmp_path, key="none")
    with pytest.raises(ValueError, match=r"1 image\(s\)"):
        reference_statistics(images(1), extractor, cache_dir=tmp_path, key="one")
    with pytest.raises(ValueError, match="of 0 image"):
        reference_statistics(iter(()), extractor, cache_dir=tmp_path, key="none")
    assert not list(tmp_path.glob("*.npz"))
    with pytest.raises(FileNotFoundError):
        ReferenceStatistics.load(tmp_path / "absent.npz")
    for content, message in (
        ({"x": [1]}, "holds \\['x'\\]"),
        ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, r"mu \(3,\) and sigma \(2, 2\)"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)}, "not finite"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "are not"),
        ({"mu": np.array(["a"]), "sigma": np.eye(1)}, "hold no numbers"),
        ({"mu": np.zeros(1) + 1j, "sigma": np.eye(1)}, "hold no numbers, or complex ones"),
        (GOOD | {"sigma": -np.eye(2)}, "with a negative variance"),
        (GOOD | {"sigma": np.triu(np.ones((2, 2)))}, "not symmetric"),
        (GOOD | {"n": np.array([1, 2])}, "damaged statistics"),
        (GOOD | {"n": "x"}, "damaged statistics"),
        (GOOD | {"n": np.nan}, "damaged statistics"),
        (GOOD | {"n": -5}, "statistics of -5 images"),
        (GOOD | {"identity": ["a", "b"]}, "damaged statistics"),
        (GOOD | {"kernel_mean": np.zeros(3)}, "damaged statistics"),
        (GOOD | {"factor": np.zeros((3, 3))}, r"factor \(3, 3\)"),
        (GOOD | {"factor": np.full((2, 2), np.nan)}, "factor .* not finite"),
        (GOOD | {"factor": np.array(["a", "b"])}, "factor"),
        (GOOD | {"features": np.zeros((4, 3))}, r"features \(4, 3\)"),
        (GOOD | {"format": 99}, "has the format 99, this version reads 1"),
    ):
        np.savez(tmp_path / "bad.npz", **content)
        with pytest.raises(ValueError, match=message):
            ReferenceStatistics.load(tmp_path / "bad.npz")
    np.save(tmp_path / "one.npy", np.zeros(2))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match="no readable"):
        ReferenceStatistics.load(tmp_path / "one.npz")
    with zipfile.ZipFile(tmp_path / "members.npz", "w") as archive:
        for name in ("mu.npy", "sigma.npy"):
            archive.writestr(name, "hello")
    with pytest.raises(ValueError, match="damaged statistics"):
        ReferenceStatistics.load(tmp_path / "members.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match="no readable"):
        ReferenceStatistics.load(tmp_path / "text.npz")
