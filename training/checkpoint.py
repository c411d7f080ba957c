"""Checkpoints that an interrupted run goes on from, one for each thing that it may be made by."""

import hashlib
import io
import json
from pathlib import Path

import torch

from experiment.errors import UserError
from experiment.files import write_atomically

DIGEST = hashlib.sha256().digest_size
READABLE = ("hardware", "packages", "precision")  # of an identity; the others are long, or hashes


def file_of(folder: Path, identity: dict) -> Path:
    """Where the state is kept; what another identity left lies beside it."""
    return folder / f"{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}.pt"


WRITING_SHARE = 1 / 20  # of the time, at most, where a checkpoint takes longer than a second to write


def interval(seconds: float, writing: float) -> float:
    """Seconds from one checkpoint to the next. seconds: what the suite asks for; writing: what the last one took."""
    return max(seconds, writing / WRITING_SHARE) if writing > 1 else seconds


def save(folder: Path, identity: dict, state: dict) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts, so that there always is a complete one.

    identity: what the run is and what it is made by; only the same may go on from the state.
    """
    buffer = io.BytesIO()
    buffer.write(bytes(DIGEST))
    torch.save({"identity": identity, "state": state}, buffer)
    content = buffer.getbuffer()
    content[:DIGEST] = hashlib.sha256(content[DIGEST:]).digest()  # torch.load takes flipped bits without a word
    write_atomically(file_of(folder, identity), content)


def load(folder: Path, identity: dict, device: torch.device) -> dict | None:
    """The state that `save` wrote, or None where there is no checkpoint at all. No pickled code is run (weights_only).

    Raises UserError when the file is damaged, or when there are only checkpoints of other identities, which stay.
    """
    path = file_of(folder, identity)
    if path.exists():
        saved = _read(path, device)
        if saved["identity"] != identity:
            raise UserError(f"{path} is no checkpoint of this run")
        return saved["state"]
    others = sorted(folder.glob("*.pt"), key=lambda other: other.stat().st_mtime)
    if not others:
        return None
    saved = _read(others[-1], torch.device("cpu"))
    try:
        different = _differences(saved["identity"], identity)
    except Exception:  # of many kinds: it may say anything of what it was made by
        raise UserError(f"{others[-1]} is no checkpoint") from None
    raise UserError(
        f"{others[-1]} was made with another {different}; "
        "it stays, and the run goes on from it when it is started with the same again"
    )


def _read(path: Path, device: torch.device) -> dict:
    content = memoryview(path.read_bytes())
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise UserError(f"{path} is damaged")
    try:
        saved = torch.load(io.BytesIO(content[DIGEST:]), map_location=device, weights_only=True)
        if not all(isinstance(saved[key], dict) for key in ("identity", "state")):
            raise TypeError
    except Exception:  # of many kinds: what lies there was not written by `save`
        raise UserError(f"{path} is no checkpoint") from None
    return saved


def _differences(saved: dict, wanted: dict) -> str:
    """ "hardware (a CPU, 2 threads; now a CPU, 1 thread), code"."""
    different = [key for key, value in wanted.items() if saved.get(key) != value]

    def shown(side: dict, other: dict, key: str) -> str:
        if key != "packages":
            return side.get(key)
        here, there = side.get(key, {}), other.get(key, {})
        return ", ".join(f"{name} {version}" for name, version in here.items() if there.get(name) != version)

    return ", ".join(
        f"{key} ({shown(saved, wanted, key)}; now {shown(wanted, saved, key)})" if key in READABLE else key
        for key in different
    )
