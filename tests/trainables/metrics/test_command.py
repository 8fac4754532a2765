import numpy as np
import pytest
from PIL import Image

from trainables.data.natural import folder_images
from trainables.data.store import DIGEST_BYTES, write_store
from trainables.metrics.__main__ import main
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import estimate_frechet_distance, frechet_distance, reference_statistics


def random_images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 12, 12, 3), np.uint8)


def write_folder(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:04d}.png")
    return folder


def values(output):
    """The report's numbers by name."""
    lines = [line.split() for line in output.splitlines() if "  " in line]
    return {line[0]: float(line[1]) for line in lines if line[0] not in ("…", "near")}


def deviation(output, name):
    """The number behind a value's ±."""
    (line,) = [line for line in output.splitlines() if line.startswith(name + " ")]
    return float(line.split("±")[1].split()[0])


@pytest.fixture
def folders(tmp_path):
    generated, real = random_images(40), random_images(90, seed=1)
    return write_folder(tmp_path / "generated", generated), write_folder(tmp_path / "real images", real)


def test_folders_stores_and_statistics_give_one_value(tmp_path, folders, capsys):
    generated, real = folders
    extractor = load_extractor("random")
    features = extractor(random_images(40))
    reference = reference_statistics(random_images(90, seed=1), extractor, cache_dir=None, key="x")
    expected = estimate_frechet_distance(features, reference)

    statistics = tmp_path / "real.npz"
    arguments = ["--features", "random", "--threads", "1"]
    assert main([str(generated), str(real), *arguments, "--save-real", str(statistics), "--manifold"]) == 0
    output = capsys.readouterr().out
    found = values(output)
    assert found["fd_random"] == pytest.approx(expected.value, rel=1e-5)
    assert expected.std / 3 < deviation(output, "fd_random") < 3 * expected.std
    assert "40 real images against the others" in output
    assert {"kid_random", "precision", "recall", "density", "coverage"} <= set(found)
    assert "near copies                         0 " in output

    for path in (statistics, store_of(tmp_path / "real.arrow", random_images(90, seed=1))):
        assert main([str(generated), str(path), *arguments]) == 0
        again = values(capsys.readouterr().out)
        assert again["fd_random"] == pytest.approx(found["fd_random"], rel=1e-5)
        assert again["kid_random"] == pytest.approx(found["kid_random"], abs=1e-6)

    assert main([str(real), str(statistics), "--features", "random"]) == 0
    assert "near copies                         1 " in capsys.readouterr().out

    peers = tmp_path / "peer.npz"
    np.savez(peers, mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    for arguments in ([str(peers), str(statistics)], [str(peers), str(real), "--features", "random"]):
        assert main(arguments) == 0
        (value,) = values(capsys.readouterr().out.replace("fréchet distance", "fd")).values()
        assert value == pytest.approx(frechet_distance(features, reference), rel=1e-5)


def test_what_is_not_scored_is_said(tmp_path, folders, capsys):
    few, real = write_folder(tmp_path / "few", random_images(12)), str(folders[1])
    random = ["--features", "random"]
    assert main([str(few), real, *random, "--manifold"]) == 0
    said = capsys.readouterr().out
    assert "No deviation and no kernel distance: they need 20 images." in said
    assert {"precision", "recall"} <= set(values(said)) and "near copies" in said and "± " not in said

    bare, kept = tmp_path / "bare.npz", tmp_path / "kept.npz"
    np.savez(bare, mu=np.zeros(64), sigma=np.eye(64))
    assert main([real, str(bare), *random]) == 0
    assert f"distance of real images: {bare} holds no features." in capsys.readouterr().out
    assert main([str(bare), str(bare), "--save-real", str(kept)]) == 0
    assert kept.exists() and "all else needs the images" in capsys.readouterr().out
    assert main([str(bare), real, *random]) == 0
    assert "all else needs the images" in capsys.readouterr().out
    for path in (real, str(bare)):
        assert main([str(bare), path, *random, "--manifold"]) == 2
        assert "bare.npz holds statistics; precision and recall need the images" in capsys.readouterr().err
    assert main([real, str(few), *random]) == 0
    assert "No distance of 90 real images to others: it takes 180 images" in capsys.readouterr().out


def test_a_folder_sorted_by_class_has_the_deviation_of_a_shuffled_one(tmp_path, folders, capsys):
    shades = np.repeat([0, 200], 60)[:, None, None, None]
    images = (shades + random_images(120) // 8).astype(np.uint8)
    features = load_extractor("random")(images)
    reference = reference_statistics(
        random_images(90, seed=1), load_extractor("random"), cache_dir=None, key="x"
    )
    in_order = estimate_frechet_distance(features, reference).std
    shuffled = [
        estimate_frechet_distance(np.random.default_rng(seed).permutation(features), reference).std
        for seed in range(20)
    ]
    assert in_order > 1.5 * max(shuffled)
    sorted_folder = write_folder(tmp_path / "sorted", images)
    assert main([str(sorted_folder), str(folders[1]), "--features", "random"]) == 0
    assert deviation(capsys.readouterr().out, "fd_random") < 1.2 * max(shuffled)


def store_of(path, images):
    """A store of these images, all in its training split."""
    n = len(images)
    manifest = {"name": "set", "class_names": [], "rejected": 0, "rejects": [], "notes": []}
    digests = np.zeros((n, DIGEST_BYTES), np.uint8)
    write_store(path, images, digests, np.zeros(n, np.int64), np.zeros(n, np.uint8), {}, manifest)
    return path


def test_images_are_read_in_order_in_batches_of_one_size(tmp_path):
    images = random_images(600)
    folder = tmp_path / "folder"
    write_folder(folder, images[:300])
    write_folder(folder / "9", images[300:302, :8])
    (folder / "notes.txt").write_text("no image")
    Image.fromarray(images[0, :, :, 0]).save(folder / "z.JPG")
    batches = list(folder_images(folder))
    assert [batch.shape for batch in batches] == [
        (256, 12, 12, 3),
        (44, 12, 12, 3),
        (2, 8, 12, 3),
        (1, 12, 12, 3),
    ]
    np.testing.assert_array_equal(np.concatenate(batches[:2]), images[:300])


def test_input_that_cannot_be_scored_is_one_sentence_and_code_2(tmp_path, folders, capsys):
    generated, real = map(str, folders)
    empty = tmp_path / "empty"
    empty.mkdir()
    one = write_folder(tmp_path / "one", random_images(1))
    broken = write_folder(tmp_path / "broken", random_images(2))
    (broken / "0001.png").write_bytes(b"no image")
    (tmp_path / "other.arrow").write_text("no store")
    narrow = tmp_path / "narrow.npz"
    np.savez(narrow, mu=np.zeros(3), sigma=np.eye(3))
    foreign = tmp_path / "foreign.npz"
    extractor = load_extractor("efficientnet_lite0")
    reference_statistics(random_images(5), extractor, cache_dir=None, key="x").save(foreign)
    for paths, message in (
        (["absent", real], "no such file or folder: absent"),
        ([str(empty), real], "no image in"),
        ([generated, str(empty)], "no image in"),
        ([str(one), real], "features of 1 images; at least 2"),
        ([generated, str(one)], "covariance of 1 image(s)"),
        ([str(broken), real], "0001.png is no readable image"),
        ([generated, str(tmp_path / "other.arrow")], "is no readable image store"),
        ([generated, str(broken / "0000.png")], "neither a folder of images, an image store (.arrow) nor"),
        ([generated, str(narrow)], "64 dimensions; the reference has 3"),
        ([generated, str(foreign)], "cannot be compared"),
        ([generated, real, "--features", "vgg"], "no feature extractor 'vgg'; there are: auto"),
        (
            [generated, real, "--weights", "absent.pth", "--features", "inception"],
            "no file of weights at absent",
        ),
        ([generated, real, "--threads", "0"], "threads is 0"),
        ([generated, real, "--threads", "1000000000"], "threads is 1000000000"),
        ([generated, real, "--device", "abacus"], "device is 'abacus', which torch can't use"),
        ([generated, real, "--save-real", str(tmp_path)], "Is a directory"),
        (["x" * 5000, real], "File name too long"),
    ):
        assert main(["--features", "random", *paths]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert "Traceback" not in errors
        assert errors.count("\n") == 1
