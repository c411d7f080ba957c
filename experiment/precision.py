"""The arithmetic of a process: what a suite asks for training, plain fp32 for evaluation."""

from pathlib import Path

import torch

from experiment.errors import UserError

CPUINFO = Path("/proc/cpuinfo")


def resolve(precision: str, device: torch.device) -> str:
    """What a suite's `precision` means on a device: "fp32", "tf32" or "bf16". Raises UserError if it lacks bf16.

    auto is bf16 on a device that has it, a CPU or a GPU, and fp32 elsewhere; tf32 is a GPU's own, and fp32 on a CPU.
    """
    gpu = device.type == "cuda"
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else _cpu_has_bf16()
    if precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    if precision == "bf16" and not has_bf16:
        raise UserError("training.precision is bf16, which this device does not compute in; use fp32, or auto")
    return "fp32" if precision == "tf32" and not gpu else precision


def apply(precision: str) -> None:
    """Set the process's float32 arithmetic to what `resolve` gave: PyTorch's default mixes TF32 into fp32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _cpu_has_bf16() -> bool:
    try:
        flags = CPUINFO.read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
