"""The weights that a run leaves: written whole, and read only if they are those that the record names."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from experiment.errors import UserError
from experiment.files import write_atomically

if TYPE_CHECKING:  # the Snakefile checks weights at every start, and torch would cost it seconds
    from torch import Tensor

# PyTorch's names of safetensors' types, of which digests are.
TYPES = {
    **{"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32"},
    **{"I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64"},
}


def save(path: Path, weights: dict[str, "Tensor"]) -> str:
    """Write a network's weights as safetensors, atomically; returns their SHA-256 (names, shapes and values)."""
    content = _serialised(weights)
    write_atomically(path, content)
    return _digest(content)


def load(path: Path, expected: str) -> dict[str, "Tensor"]:
    """The weights in a file, on the CPU. Raises UserError unless their SHA-256 is `expected`."""
    from safetensors.torch import load as parse

    return parse(check(path, expected))


def check(path: Path, expected: str) -> bytes:
    """The content of a file of weights. Raises UserError unless their SHA-256 is `expected`."""
    try:
        content = path.read_bytes()
        found = _digest(content)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train the run again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and train the run again") from None
    if found != expected:
        raise UserError(f"{path} has weights of SHA-256 {found}, train.json names {expected}; train the run again")
    return content


def sha256(weights: dict[str, "Tensor"]) -> str:
    """SHA-256 of names, types, shapes and values; the same weights give the same digest in any file."""
    return _digest(_serialised(weights))


def _serialised(weights: dict[str, "Tensor"]) -> bytes:
    from safetensors.torch import save as serialise

    return serialise({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})


def _digest(content: bytes) -> str:
    digest, tensors = hashlib.sha256(), safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    for name, tensor in sorted(tensors, key=lambda entry: entry[0]):
        digest.update(f"{name} torch.{TYPES[tensor['dtype']]} {tuple(tensor['shape'])}\n".encode())
        digest.update(tensor["data"])
    return digest.hexdigest()
