"""Checkpoints that an interrupted run goes on from."""

import hashlib
import io
from pathlib import Path

import torch

from experiment.errors import UserError
from experiment.record import write_atomically

DIGEST = hashlib.sha256().digest_size


def save(path: Path, identity: dict, state: dict) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts, so that `path` always holds a complete one.

    identity: what the run is and what it is made by; only the same may go on from the state.
    """
    buffer = io.BytesIO()
    buffer.write(bytes(DIGEST))
    torch.save({"identity": identity, "state": state}, buffer)
    content = buffer.getbuffer()
    content[:DIGEST] = hashlib.sha256(content[DIGEST:]).digest()  # torch.load takes flipped bits without a word
    write_atomically(path, content)


def load(path: Path, identity: dict, device: torch.device) -> dict | None:
    """The state that `save` wrote, or None where there is none. No pickled code is run (weights_only).

    Raises UserError when the file is damaged, or its identity is another.
    """
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise UserError(f"{path} is damaged")
    saved = torch.load(io.BytesIO(content[DIGEST:]), map_location=device, weights_only=True)
    differing = [key for key, value in identity.items() if saved["identity"].get(key) != value]
    if differing:
        raise UserError(f"{path} was made with another {', '.join(differing)}")
    return saved["state"]
