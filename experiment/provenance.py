"""Where a number comes from: hardware, software, sources. Nothing in it names the host, its user or its folders."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from experiment.datasets.dataset import Dataset
from experiment.errors import UserError
from experiment.plugins import KINDS
from experiment.sources import of_engine, of_method, of_plugin

if TYPE_CHECKING:  # the Snakefile imports this module at every start, and torch would cost it seconds
    import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "pyautoattack", "numpy", "scipy", "scikit-learn", "snakemake")
ROOMS = ("experiment", "steps", "methods", "training", "evaluation", "analysis", "reporting", "benchmarks")
LOCAL = {"data_dir", "mirrors", "checkpoint_seconds"}  # keys of a suite that change no result and may name folders


class Git(TypedDict):
    """commit: null where the project lies in no checkout; dirty: whether the sources are others than the commit's."""

    commit: str | None
    dirty: bool | None


class Hardware(TypedDict):
    """label: times compare where it is the same; threads: of the CPU; the rest is a GPU's."""

    label: str
    device: str
    cpu: str
    threads: int
    gpu: NotRequired[str]
    gpu_memory_bytes: NotRequired[int]
    driver: NotRequired[str | None]
    gpu_clock: NotRequired[str | None]
    cuda: NotRequired[str | None]
    cudnn: NotRequired[int | None]


class Provenance(TypedDict):
    """packages: versions, null where one is not there; sources: SHA-256 of what makes numbers; times in UTC."""

    hardware: Hardware
    precision: str
    python: str
    packages: dict[str, str | None]
    git: Git
    suite_sha256: str
    sources: dict[str, str]
    started: str
    finished: str


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def device() -> "torch.device":
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_slot(slot: str | None) -> None:
    """Raise UserError where PyTorch sees a GPU but no slot of one could be taken: jobs would run on it all at once."""
    import torch

    if slot is None and torch.cuda.is_available():
        raise UserError(
            "PyTorch sees a GPU that nvidia-smi does not list, so that jobs cannot take turns on it; make nvidia-smi "
            "work, or set CUDA_VISIBLE_DEVICES to nothing to compute on the CPU"
        )


def collect(
    where: "torch.device",
    precision: str,
    started: str,
    suite: Mapping[str, Any],
    sources: dict[str, str],
) -> Provenance:
    """The provenance of a record that is about to be written.

    precision: arithmetic that was used ("fp32", "tf32", "bf16"); suite: as resolved; sources: as `made_of`
    gives them.
    """
    return {
        "hardware": hardware(where),
        "precision": precision,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git(),
        "suite_sha256": suite_sha256(suite),
        "sources": sources,
        "started": started,
        "finished": now(),
    }


def suite_sha256(resolved: Mapping[str, Any]) -> str:
    """SHA-256 of all that a suite says of its records, whatever the order of its keys and where its data lie."""
    content = {key: value for key, value in resolved.items() if key not in LOCAL}
    if "data_sources" in resolved:
        where = {"npz", "images"}
        content["data_sources"] = [
            {key: value for key, value in source.items() if key not in where} for source in resolved["data_sources"]
        ]
    judged = {"equivalence_margin"}  # how tables judge records, not how those are made
    content["evaluation"] = {key: value for key, value in resolved["evaluation"].items() if key not in judged}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def named_by_run(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Kind and name of what trains a run: its method, and each plug-in that its specification names."""
    training = spec["training"]
    parts = {"steps": spec["steps"], "schedule": training["schedule"], "optimizer": training["optimizer"]}
    parts |= {"network": spec["network"], "threat": spec["threat"]}
    return [("method", spec["method"]), *((kind, part[KINDS[kind].key]) for kind, part in parts.items())]


def named_by_attack(settings: Mapping[str, Any], spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same of what makes an attack's verdicts on a run; not of how that was trained, for it has weights.

    settings: of the attack, resolved; spec: of the run.
    """
    attack = settings["name"].partition("-")[0]
    return [("attack", attack), ("threat", settings["threat"]["norm"]), ("network", spec["network"]["name"])]


def made_of(stage: str, named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Digests of the sources of a stage, "training" or "evaluation", by kind: of its engine and of what is named."""
    return {"engine": sha256_of("engine", stage)} | {kind: sha256_of(kind, name) for kind, name in named}


def facts_sha256(dataset: Dataset) -> str:
    """Of what is done to a data set's images: their channels' mean and std, and augmentation. Its file may say more."""
    return hashlib.sha256(json.dumps([dataset.mean, dataset.std, dataset.augmentation]).encode()).hexdigest()


@cache
def sha256_of(kind: str, name: str) -> str:
    """Of all the sources that a method, a plug-in, or the engine of "training" or "evaluation" is made of.

    Read once: what a process runs does not change.
    """
    if kind == "engine":
        return source_sha256(of_engine(ROOT, name))
    return source_sha256(of_method(ROOT, name) if kind == "method" else of_plugin(ROOT, kind, name))


def hardware(where: "torch.device") -> Hardware:
    """What ran, and a label by which times may be compared."""
    import torch

    threads = torch.get_num_threads()
    cpu = cpu_model()
    label = f"{cpu}, {threads} thread{'s' if threads > 1 else ''}"
    facts: Hardware = {"label": label, "device": where.type, "cpu": cpu, "threads": threads}
    if where.type == "cuda":
        name = torch.cuda.get_device_name(where)
        facts |= {
            "label": name,
            "gpu": name,
            "gpu_memory_bytes": torch.cuda.get_device_properties(where).total_memory,
            "driver": _nvidia_smi("driver_version"),
            "gpu_clock": _nvidia_smi("clocks.sm"),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def cpu_model() -> str:
    """The processor's name as the kernel gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git() -> Git:
    """Commit, and whether tracked files differ from it or the rooms hold others, ignored by git or not.

    null where this is no checkout.
    """
    found = _output(["git", "-C", str(ROOT), "rev-parse", "--show-toplevel", "HEAD"])
    top, _, commit = (found or "").partition("\n")
    if not commit or Path(top).resolve() != ROOT:  # the project may lie in a folder of somebody else's checkout
        return {"commit": None, "dirty": None}
    changed = _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    others = _output(["git", "-C", str(ROOT), "ls-files", "--others", "--", *(f"{room}/" for room in ROOMS)])
    if changed is None or others is None:
        return {"commit": commit, "dirty": None}
    caches = ("__pycache__", ".")
    kept = [line for line in others.splitlines() if not any(part.startswith(caches) for part in line.split("/"))]
    return {"commit": commit, "dirty": bool(changed or kept)}


def source_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of files' names (from the project's root) and contents."""
    digest = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def peak_memory(where: "torch.device") -> tuple[int, str]:
    """Highest use in bytes since `reset_peak_memory`, or since the process began, and of what.

    Of "gpu", PyTorch's allocations on it; of "process", on a CPU, all that the process uses, PyTorch itself included.
    """
    import torch

    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where), "gpu"
    with suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024, "process"
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "process"


def reset_peak_memory(where: "torch.device") -> None:
    """Let `peak_memory` start anew; where the kernel does not allow that to a process, it goes on."""
    import torch

    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _nvidia_smi(field: str) -> str | None:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    return _output(["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader", f"--id={first}"])


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip() if done.returncode == 0 else None
