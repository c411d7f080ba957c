"""Checkpoints to resume from, and the weights that are kept."""

import hashlib
import io
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from experiment.record import write_atomically


def save_resume(path: Path, state: dict) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts, so that `path` always holds a complete one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_resume(path: Path, device: torch.device) -> dict | None:
    """The state that `save_resume` wrote, or None where there is none. No pickled code is run (weights_only)."""
    if not path.exists():
        return None
    return torch.load(path, map_location=device, weights_only=True)


def save_weights(path: Path, weights: dict[str, Tensor]) -> str:
    """Write a network's weights as safetensors, atomically; returns their SHA-256 (names, shapes and values)."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, save(weights))
    return weights_sha256(weights)


def weights_sha256(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values; the same weights give the same digest in any file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
