"""The weights that a run leaves: written whole, and read only if they are those that the record names."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor

from experiment.errors import UserError
from experiment.files import write_atomically


def save(path: Path, weights: dict[str, Tensor]) -> str:
    """Write a network's weights as safetensors, atomically; returns their SHA-256 (names, shapes and values)."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomically(path, serialise(weights))
    return sha256(weights)


def load(path: Path, expected: str) -> dict[str, Tensor]:
    """The weights in a file, on the CPU. Raises UserError unless their SHA-256 is `expected`."""
    try:
        weights = parse(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train the run again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and train the run again") from None
    if (found := sha256(weights)) != expected:
        raise UserError(f"{path} has weights of SHA-256 {found}, train.json names {expected}; train the run again")
    return weights


def sha256(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values; the same weights give the same digest in any file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
