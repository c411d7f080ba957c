"""An attack on all test images, chunk by chunk, so that one that is killed goes on after the last finished chunk."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from evaluation.verify import attack
from experiment.files import write_atomically

CHUNK = 1000  # images whose verdicts are stored together


def in_chunks(
    settings: Mapping[str, Any], network: nn.Module, images: Tensor, labels: Tensor, parts: Path, identity: dict
) -> tuple[np.ndarray, list[str], float]:
    """Verdicts of all images, flags and seconds; chunks that an earlier attempt finished are taken from `parts`.

    identity: what the parts must have been made with to be of use.
    """
    device = next(network.parameters()).device
    robust, flags, seconds = [], [], 0.0
    for start in range(0, len(images), CHUNK):
        file = parts / f"{start}.json"
        stored = finished_chunk(file, identity, len(images[start : start + CHUNK]))
        if stored is None:
            x = images[start : start + CHUNK].to(device).float().div_(255)
            y = labels[start : start + CHUNK].to(device)
            began = time.perf_counter()
            verdicts = attack(settings, network, x, y, seed=chunk_seed(settings, start))
            stored = {"robust": verdicts.robust.tolist(), "flags": verdicts.flags, "identity": identity}
            stored["seconds"] = time.perf_counter() - began
            write_atomically(file, json.dumps(stored).encode())
        robust += stored["robust"]
        flags += [flag for flag in stored["flags"] if flag not in flags]
        seconds += stored["seconds"]
    return np.array(robust, bool), flags, seconds


def chunk_seed(settings: Mapping[str, Any], start: int) -> int:
    """The seed of the chunk of test images that begins with number `start`."""
    return settings.get("seed", 0) * 1_000_003 + start  # clean and fgsm draw nothing, and have none


def finished_chunk(file: Path, identity: dict, images: int) -> dict | None:
    """What an earlier attempt stored in `file` of so many images; None where nothing whole is made with `identity`."""
    try:
        stored = json.loads(file.read_text())
        robust, flags, seconds, made = (stored[key] for key in ("robust", "flags", "seconds", "identity"))
        whole = {*map(type, robust)} == {bool} and {*map(type, flags)} <= {str} and 0 <= seconds < float("inf")
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return stored if whole and len(robust) == images and made == identity else None
