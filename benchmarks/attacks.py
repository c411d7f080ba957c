"""How fast the suite attacks a trained network, beside the usual attacks on the same images and weights.

    python -m benchmarks.attacks configs/quick.yaml digits/pgd-7/seed0 --attacks pgd-100 --images 256

A benchmark, not a test: it leaves no results. Every loop is timed once in each repeat, so that whatever else the
machine does falls on all alike. The verdicts are compared image by image.
"""

import argparse
import copy
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from tabulate import tabulate
from torch import Tensor, nn

from evaluation.attacks.pgd import PGD
from evaluation.chunks import CHUNK, chunk_seed
from evaluation.run import load_network
from evaluation.verify import attack, threat_of
from experiment import attacks, pgd, precision, provenance, record, slots
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.quantity import count, threads
from experiment.suite import Run, Suite
from training.clock import synchronize

BATCH_SIZE = 200  # of the usual attacks
Loop = Callable[[dict, nn.Module, Tensor, Tensor, int], Tensor]  # as `attack`, but gives the verdicts alone, (N,) bool
LEGEND = """\
plain: on the network itself, NCHW, fp32, {batch_size} images at a time; PGD carries all images to the end, AutoAttack
is the package's. suite: evaluation.run. again: the same with the next seed: the noise of the time, and of verdicts.
Medians over {repeats} repeats; spread: (highest - lowest) / median. x plain: plain's seconds / these. only plain
breaks, only this breaks: images about which the verdict is not plain's."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__.partition("\n")[0])
    parser.add_argument("suite", nargs="?", default="configs/quick.yaml", help="YAML file; default: %(default)s")
    parser.add_argument("run", nargs="?", metavar="RUN", help="<dataset>/<variant>/seed<k>; default: the suite's first")
    parser.add_argument("--attacks", default="pgd-100,autoattack", help="separated by commas; default: %(default)s")
    parser.add_argument("--images", type=count, default=256, help="first test images; default: %(default)s")
    parser.add_argument("--repeats", type=count, default=3, help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    parser.add_argument("--threads", type=threads, help="CPU threads; default: PyTorch's own choice")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers and what they were measured on")
    options = parser.parse_args(arguments)
    with reported("benchmarks.attacks"), slots.gpu() as slot, slots.timed(slot):
        provenance.check_slot(slot)
        measured = measure(options)
        print(table(measured))
        if options.json:
            write_atomically(options.json, (json.dumps(measured, indent=1) + "\n").encode())


def measure(options: argparse.Namespace) -> dict:
    """The numbers of the attacks asked for, and the hardware and software that gave them."""
    if options.threads:
        torch.set_num_threads(options.threads)
    suite = attacking(Suite.load(options.suite), options.attacks.split(","))
    run, device = suite.run(options.run) if options.run else next(suite.runs()), provenance.device()
    images, labels = suite.load_split(run.dataset, "test")
    images, labels = images[: options.images].to(device).float().div_(255), labels[: options.images].to(device)
    network = trained(suite, run, options.results / suite.name / run.folder, options.suite).to(device)
    precision.apply("fp32")
    right = int((pgd.predictions(network, images, BATCH_SIZE) == labels).sum())
    rows = []
    for name in suite.attacks:
        print(f"benchmarks.attacks: {name}", file=sys.stderr, flush=True)
        rows += measure_attack(suite.attack(name), network, images, labels, options.repeats)
    return {
        "suite": suite.name,
        "run": run.folder,
        "network": run.spec["network"]["name"],
        "images": len(images),
        "clean": right,
        "repeats": options.repeats,
        "hardware": provenance.hardware(device),
        "torch": torch.__version__,
        "sources": provenance.sha256_of("engine", "evaluation"),
        "rows": rows,
    }


def attacking(suite: Suite, names: list[str]) -> Suite:
    """The suite with these attacks, each as the suite has it or else with the default settings."""
    content = copy.deepcopy(suite.resolved)
    content["evaluation"]["attacks"] = [
        next((attack for attack in content["evaluation"]["attacks"] if attack["label"] == name), {"name": name})
        for name in names
    ]
    return Suite.from_mapping(content)


def trained(suite: Suite, run: Run, folder: Path, suite_file: str) -> nn.Module:
    """The run's network as an evaluation gets it. Raises UserError where the run has no weights."""
    weights = folder / "model.safetensors"
    if not weights.exists() or not (folder / "train.json").exists():
        raise UserError(
            f"{folder} has no weights; they come from: python -m training.run {suite_file} {run.folder}"
            f" --results {folder.parents[3]}"
        )
    train = record.read(folder / "train.json")
    if train["status"] == "diverged":
        raise UserError(f"{folder} holds a run that diverged; choose another")
    return load_network(run, suite.dataset(run.dataset), weights, train["weights_sha256"])


def measure_attack(settings: dict, network: nn.Module, images: Tensor, labels: Tensor, repeats: int) -> list[dict]:
    """One row for each loop."""
    next_seed = {**settings, "seed": settings.get("seed", 0) + 1}
    loops = {"plain": (plain, settings), "suite": (of_suite, settings), "again": (of_suite, next_seed)}
    warm_up(settings, network, images, labels)
    seconds, robust = {name: [] for name in loops}, {}
    for _ in range(repeats):
        for name, (loop, its_settings) in loops.items():
            synchronize(images.device)
            start = time.perf_counter()
            robust[name] = in_chunks(loop, its_settings, network, images, labels)
            synchronize(images.device)
            seconds[name].append(time.perf_counter() - start)
    base = robust["plain"]
    return [
        {
            "attack": settings["name"],
            "loop": name,
            "seconds": seconds[name],
            "spread": (max(seconds[name]) - min(seconds[name])) / median(seconds[name]),
            "speedup_over_plain": median(seconds["plain"]) / median(seconds[name]),
            "robust": int(robust[name].sum()),
            "only_plain_breaks": int((robust[name] & ~base).sum()),
            "only_this_breaks": int((base & ~robust[name]).sum()),
        }
        for name in loops
    ]


def warm_up(settings: dict, network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """What the first use of the device and of the package costs, with an attack of one step."""
    importlib.import_module("pyautoattack")
    for loop in (plain, of_suite):
        loop({**settings, "name": "fgsm"}, network, images[:BATCH_SIZE], labels[:BATCH_SIZE], 0)


def in_chunks(loop: Loop, settings: dict, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Verdicts of all images, (N,) bool, by the chunks and seeds of an evaluation."""
    starts = range(0, len(images), CHUNK)
    chunks = zip(starts, images.split(CHUNK), labels.split(CHUNK), strict=True)
    return torch.cat([loop(settings, network, x, y, chunk_seed(settings, start)) for start, x, y in chunks])


def of_suite(settings: dict, network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """The suite's verdicts."""
    return attack(settings, network, images, labels, seed).robust


def plain(settings: dict, network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """The verdicts of the usual attack: the package's, or PGD that carries all images to the end."""
    its, threat = attacks.of_settings(settings), threat_of(settings, images, seed)
    steps, step_size, restarts = its.iterations.values()
    if step_size is None:  # no PGD
        return its.search(network, images, labels, threat, seed, BATCH_SIZE)[0].robust
    loss = its.loss if isinstance(its, PGD) else pgd.cross_entropy
    robust = pgd.predictions(network, images, BATCH_SIZE) == labels
    for _ in range(restarts):
        start = threat.random_start(images) if isinstance(its, PGD) else torch.zeros_like(images)
        for batch in torch.arange(len(images), device=images.device).split(BATCH_SIZE):
            x, y, delta = images[batch], labels[batch], start[batch]
            for _ in range(steps):
                delta = delta.detach().requires_grad_()
                logits = network(x + delta)
                robust[batch] &= logits.argmax(1) == y
                (gradient,) = torch.autograd.grad(loss(logits, y).sum(), delta)
                delta = threat.ascend(x, delta, gradient, step_size)
            robust[batch] &= pgd.predictions(network, x + delta, BATCH_SIZE) == y
    return robust


def table(measured: dict) -> str:
    """What the terminal shows."""
    rows = [
        {
            "attack": row["attack"],
            "loop": row["loop"],
            "seconds": f"{median(row['seconds']):.4g}",
            "spread": f"{row['spread']:.0%}",
            "x plain": f"{row['speedup_over_plain']:.2f}",
            "robust": f"{row['robust']}",
            "only plain breaks": f"{row['only_plain_breaks']}",
            "only this breaks": f"{row['only_this_breaks']}",
        }
        for row in measured["rows"]
    ]
    title = (
        f"{measured['suite']} {measured['run']}, {measured['network']}, {measured['images']} test images, "
        f"{measured['clean']} of them right when clean; {measured['hardware']['label']}, PyTorch {measured['torch']}"
    )
    legend = LEGEND.format(repeats=measured["repeats"], batch_size=BATCH_SIZE)
    return f"{title}\n\n{tabulate(rows, headers='keys', disable_numparse=True)}\n\n{legend}"


if __name__ == "__main__":
    main()
