"""Images and archives that are broken, odd or hostile: refused by name, or read rightly."""

import io
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.files import encoded, pack_tar, pack_zip, picture, write
from trainables.data.sources import load
from trainables.data.store import DataError

GOOD = {f"good{i}.png": encoded(picture(i)) for i in range(5)}


def converted(tmp_path, files, **settings):
    return load(
        write(tmp_path / "set", files), **({"image_size": 16} | settings), cache_dir=tmp_path / "cache"
    )


def bomb(width, height):
    """A PNG of many black pixels in few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj()
    data = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(height)) + rows.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


JPEG = encoded(picture(0, size=(200, 200)), "JPEG")
REFUSED = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "text.png": (b"This is no picture.", "not an image"),
    "zero.jpg": (b"", "empty"),
    "pixel.png": (encoded(picture(0, size=(1, 1))), "1×1 pixels, smaller than 8×8"),
    "large.png": (bomb(9_000, 9_000), "9000×9000 pixels, more than 64 million"),
    "bomb.png": (bomb(20_000, 20_000), "more than 64 million pixels"),
    "cut.gif": (encoded(picture(0, size=(90, 90)), "GIF")[:4000], "truncated"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, name):
    data, reason = REFUSED[name]
    store = converted(tmp_path, GOOD | {name: data})
    assert len(store) == 5
    ((rejected, why),) = store.manifest["rejects"]
    assert rejected == name
    assert reason in why
    assert "\n" not in why
    assert " at 0x" not in why


def test_an_unreadable_file_is_named(tmp_path):
    folder = write(tmp_path / "set", GOOD)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "locked.png").write_bytes(b"x")
    (folder / "locked.png").chmod(0)
    store = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 5
    rejects = dict(store.manifest["rejects"])
    assert "leads nowhere" in rejects["gone.png"]
    # The superuser reads it, and finds no image.
    assert rejects["locked.png"] == "Permission denied" or os.geteuid() == 0


def plain(image):
    """What the conversion makes of an image: squashed to 16×16, RGB."""
    return np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)).astype(int)


def only(tmp_path, data, name="odd.png", **settings):
    store = converted(tmp_path, GOOD | {name: data}, **({"channels": 3} | settings))
    assert store.manifest["rejects"] == []
    return store.images[len(GOOD)].astype(int)


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.new("CMYK", (20, 16), (0, 255, 255, 0))  # red
    got = only(tmp_path, encoded(image, "JPEG", quality=100), "odd.jpg")
    assert got[..., 0].min() > 240
    assert got[..., 1:].max() < 15


def test_sixteen_bits_become_eight_without_clipping(tmp_path):
    levels = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    got = only(tmp_path, encoded(Image.fromarray(levels)), channels=1)
    np.testing.assert_allclose(got[..., 0], levels / 257, atol=0.51)


def test_a_palette_becomes_its_colors(tmp_path):
    image = picture(7).quantize(16)
    assert image.mode == "P"
    np.testing.assert_allclose(only(tmp_path, encoded(image)), plain(image), atol=1)


def test_what_is_transparent_becomes_white(tmp_path):
    image = picture(7).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert (only(tmp_path, encoded(image)) == 255).all()


def test_half_transparent_is_mixed_with_white(tmp_path):
    image = Image.new("RGBA", (20, 16), (0, 0, 0, 128))
    np.testing.assert_allclose(only(tmp_path, encoded(image)), 127, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_images_upright(tmp_path, orientation):
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = Image.new("RGB", (32, 32), "black")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("blue", (16, 0, 32, 16))
    stored = upright if turned is None else upright.transpose(turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = only(tmp_path, encoded(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(got, plain(upright))


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(only(tmp_path, data, "odd.gif"), plain(frames[0]))


def test_loops_of_links_end_and_linked_folders_count_once(tmp_path):
    folder = write(tmp_path / "set", {f"cats/{name}": data for name, data in GOOD.items()})
    (folder / "cats" / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "cats")
    (folder / "self").symlink_to(folder / "self")
    store = load(folder, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 5


@pytest.mark.parametrize("pack", [pack_tar, pack_zip])
@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png"])
def test_members_that_lead_out_of_an_archive_are_refused(tmp_path, pack, name):
    path = pack(tmp_path / f"set.{pack.__name__[-3:]}", GOOD | {name: encoded(picture(9))})
    store = load(path, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 5
    assert store.manifest["rejects"] == [[name, "its path leads out of the archive"]]
    assert not list(tmp_path.rglob("evil*"))


def test_links_and_devices_in_a_tar_are_refused(tmp_path):
    path = pack_tar(tmp_path / "set.tar", GOOD)
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    store = load(path, image_size=16, cache_dir=tmp_path / "cache")
    assert store.manifest["rejects"] == [["link.png", "a link or a device, not a file"]]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", ["tar", "zip"])
def test_of_duplicate_names_the_last_counts(tmp_path, pack):
    first, last = encoded(picture(1)), encoded(picture(2))
    path = tmp_path / f"set.{pack}"
    if pack == "tar":
        pack_tar(path, GOOD | {"twice.png": first})
        with tarfile.open(path, "a") as archive:
            member = tarfile.TarInfo("twice.png")
            member.size = len(last)
            archive.addfile(member, io.BytesIO(last))
    else:
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            for name, data in [*GOOD.items(), ("twice.png", first), ("twice.png", last)]:
                archive.writestr(name, data)
    store = load(path, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 6
    assert store.manifest["rejects"] == [["twice.png", "a later member has the same name"]]
    np.testing.assert_array_equal(store.images[5], plain(picture(2)))


@pytest.mark.parametrize("pack", [None, pack_tar, pack_zip])
def test_names_in_any_script(tmp_path, pack):
    files = {f"{folder}/{name}": data for folder in ("улыбка", "笑顔 😀") for name, data in GOOD.items()}
    source = (
        write(tmp_path / "ß", files) if pack is None else pack(tmp_path / f"ß.{pack.__name__[-3:]}", files)
    )
    store = load(source, image_size=16, cache_dir=tmp_path / "cache")
    assert store.manifest["class_names"] == ["улыбка", "笑顔 😀"]
    assert len(store) == 10


@pytest.mark.parametrize("ending", ["tar", "zip", "tar.gz"])
def test_a_file_that_is_no_archive(tmp_path, ending):
    (tmp_path / f"set.{ending}").write_bytes(b"no archive at all" * 100)
    with pytest.raises(DataError, match=r"set.* can't be read as a (tar|zip)"):
        load(tmp_path / f"set.{ending}", image_size=16, cache_dir=tmp_path / "cache")


def test_of_a_tar_that_breaks_off_the_rest_is_taken(tmp_path):
    path = pack_tar(tmp_path / "set.tar", GOOD | {"z.png": encoded(picture(9, size=(100, 100)))})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    store = load(path, image_size=16, cache_dir=tmp_path / "cache")
    assert len(store) == 5
    assert dict(store.manifest["rejects"]).keys() == {"set.tar", "z.png"}


def test_a_compressed_tar_that_breaks_off_is_refused(tmp_path):
    path = pack_tar(tmp_path / "set.tar.gz", GOOD, "w:gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="can't be read as a tar"):
        load(path, image_size=16, cache_dir=tmp_path / "cache")


def test_a_damaged_zip_member_is_named(tmp_path):
    path = pack_zip(tmp_path / "set.zip", GOOD)
    data = bytearray(path.read_bytes())
    data[data.index(b"good2.png") + 60] ^= 255
    path.write_bytes(data)
    store = load(path, image_size=16, cache_dir=tmp_path / "cache")
    assert store.manifest["rejects"] == [["good2.png", "Bad CRC-32 for file 'good2.png'"]]
