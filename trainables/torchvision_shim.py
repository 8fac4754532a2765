"""Make torchvision importable beside a CPU build of torch: import this module before torchvision.

The registry's torchvision is compiled against CUDA's torch. Beside a CPU torch its compiled library does
not load, the operators `nms` and `qnms` are never defined, and `import torchvision` fails where it registers
their meta functions. Data sets, transforms, `make_grid` and the Inception network need neither operator, so
declaring the two schemas is enough. Where the library loads nothing is declared: a second definition would
abort the process.
"""

import importlib.util
from pathlib import Path

import torch


def _declare_missing_operators() -> torch.library.Library | None:
    """Return the library fragment that holds the two schemas, or None where torchvision's own ones load."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return None
    compiled = Path(package.origin).with_name("_C.so")
    try:
        torch.ops.load_library(str(compiled))
        return None
    except OSError:
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        fragment.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        fragment.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return fragment


# Referenced for the life of the process: a collected fragment takes its schemas with it.
OPERATORS = _declare_missing_operators()
