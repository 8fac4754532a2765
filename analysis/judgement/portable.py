"""A trained model as a program that other software runs without this project: torch.export's or ONNX's.

It maps noise ε of N(0, I), (n, M), to images in [−1, 1], (n, C, H, W). Weights lie in it as raw tensors.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from analysis.record.store import AnalysisError
from trainables.models.base import GenerativeModel
from trainables.own import RAISED

NEEDED = ("onnx", "onnxscript")
BATCH = 4  # of the traced example; the program takes any number


class Generator(nn.Module):
    """Draws: the prior's affine map, in numbers, and the decoder."""

    offset: Tensor
    slope: Tensor

    def __init__(self, network: GenerativeModel):
        super().__init__()
        self.decode = network.decode
        device, size = network.device, network.config.latent_dim
        with torch.no_grad():
            offset = network.from_noise(torch.zeros(1, size, device=device))
            self.register_buffer("offset", offset)
            self.register_buffer("slope", network.from_noise(torch.eye(size, device=device)) - offset)

    def forward(self, noise: Tensor) -> Tensor:
        """Return the images of noise."""
        return self.decode(noise @ self.slope + self.offset)


def export(network: GenerativeModel, path: Path) -> None:
    """Write the program of a model to a file, in the form that its suffix names: .pt2 or .onnx.

    Raises AnalysisError where the model does not decode one draw of Gaussian noise, where torch.export cannot
    follow its `decode`, and where a package for ONNX is missing.
    """
    kind = type(network)
    if not kind.decodes_noise() or not hasattr(network.config, "latent_dim"):
        raise AnalysisError(
            f"{kind.__name__} draws images in more steps than decoding Gaussian noise: its program cannot be "
            "exported; its weights are in the record as safetensors."
        )
    if path.suffix != ".pt2" and (missing := [name for name in NEEDED if find_spec(name) is None]):
        raise AnalysisError(f"ONNX needs what is not installed: pip install {' '.join(missing)}")
    noise = torch.randn(BATCH, network.config.latent_dim, device=network.device)
    many = torch.export.Dim("n", min=1, max=2**20)
    try:
        generator = Generator(network.eval())
        with torch.no_grad():
            program = torch.export.export(generator, (noise,), dynamic_shapes={"noise": {0: many}})
    except RAISED as error:  # a person's own `decode`, and torch.export of it, raise anything
        said = (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
        raise AnalysisError(f"torch.export cannot follow {kind.__name__}.decode: {said}.") from error
    with warnings.catch_warnings():
        # Of weights that share their memory, which are written whole, and of torch by torch.
        warnings.simplefilter("ignore")
        if path.suffix == ".pt2":
            torch.export.save(program, path)
            return
        torch.onnx.export(
            program,
            (noise,),
            path,
            input_names=["noise"],
            output_names=["images"],
            external_data=False,
            verbose=False,
        )


def how_to_draw(path: Path, latent_dim: int) -> str:
    """Return lines of Python that draw 16 images with an exported program, without this project."""
    if path.suffix == ".pt2":
        return (
            "import torch\n"
            f"draw = torch.export.load({path.name!r}).module()\n"
            f"images = draw(torch.randn(16, {latent_dim}))  # (16, channels, height, width) in [-1, 1]"
        )
    return (
        "import numpy, onnxruntime\n"
        f"draw = onnxruntime.InferenceSession({path.name!r})\n"
        f"noise = numpy.random.standard_normal((16, {latent_dim})).astype(numpy.float32)\n"
        '(images,) = draw.run(None, {"noise": noise})  # (16, channels, height, width) in [-1, 1]'
    )
