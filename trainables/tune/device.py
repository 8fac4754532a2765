"""What a trial computes with: the number of threads, and the format of floating-point numbers."""

import torch
from ray import tune

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def set_torch_threads(trainable: tune.Trainable, processes: int = 1) -> None:
    """Give torch its process's share of the trial's CPUs, one thread for each, and at least one."""
    resources = trainable.trial_resources
    cpus = resources.required_resources.get("CPU", 1) if resources else 1
    torch.set_num_threads(max(1, int(cpus) // processes))


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of a training step; "auto" is bfloat16 where the hardware has it, else float32.

    Raises ValueError, with the valid names, for another one.
    """
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it is one of: {', '.join(PRECISIONS)}, auto")
    return PRECISIONS[precision]


def name_of(dtype: torch.dtype) -> str:
    """Return the precision of a type, as settings and results call it."""
    return str(dtype).removeprefix("torch.")


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
