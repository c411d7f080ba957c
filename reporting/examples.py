"""What the adversary looks like: a few test images, perturbations and adversarial images of up to three variants.

    python -m reporting.examples configs/quick.yaml

Writes results/<suite>/examples/<dataset>.png and, with its caption and alternative text, <dataset>.json. The variants
are chosen by runs.csv, which `reporting.collate` writes.
"""

import argparse
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.frames import read_csv
from analysis.results import RUN_TYPES, headline_attack
from evaluation import verify
from evaluation.run import load_network
from experiment import precision, provenance, slots
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.quantity import threads
from experiment.suite import Suite
from reporting.captions import format_eps, is_mplus
from reporting.plots.style import FORMATS, INK, RC

IMAGES = 4
READ = ("dataset", "variant", "status", "attack", "weights_sha256", "seed", "accuracy", "compute")  # of runs.csv
CELL = 1.1  # inches, the side of an image
WRONG = "#B03A00"
BELOW = {"ha": "center", "va": "top", "fontsize": 8.5}


@dataclass(frozen=True)
class Choice:
    """A variant that is shown, why, and which of its runs."""

    variant: str
    why: str
    seed: int
    weights_sha256: str


@dataclass(frozen=True)
class Sample:
    """Images of the test split, (N, C, H, W) in [0, 1], with their places in it and their labels, (N,).

    chosen: whether the last one is there because an attack broke it.
    """

    places: list[int]
    images: Tensor
    labels: Tensor
    chosen: bool


@dataclass(frozen=True)
class Examples:
    """What an attack made of the images against one network: adversarial images, (N, C, H, W) in [0, 1].

    before, after: what the network takes the clean and the adversarial images for, N labels; flags: what made the
    attack doubtful.
    """

    choice: Choice
    adversarial: Tensor
    before: list[int]
    after: list[int]
    flags: list[str]

    def __str__(self) -> str:
        return f"{self.choice.variant} ({self.choice.why}, seed {self.choice.seed})"


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m reporting.examples", description=__doc__.partition("\n")[0])
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("dataset", metavar="DATASET", nargs="*", help="default: every data set of the suite")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--threads", type=threads, help="CPU threads; default: PyTorch's own choice")
    options = parser.parse_args(arguments)
    with reported("examples"):
        suite = Suite.load(options.suite)
        if options.threads:
            torch.set_num_threads(options.threads)
        with slots.gpu() as slot:
            provenance.check_slot(slot)
            for dataset in options.dataset or suite.datasets:
                print(f"Examples: {os.path.relpath(make(suite, dataset, options.results / suite.name))}", flush=True)


def make(suite: Suite, dataset: str, folder: Path) -> Path:
    """Write examples/<dataset>.png and .json in `folder` (results/<suite>); returns the picture's path.

    Where no network is left to attack, the picture says so. Raises UserError where runs.csv, the test images or the
    weights of a chosen run cannot be used.
    """
    if dataset not in suite.datasets:
        raise UserError(f"suite {suite.name} has no data set {dataset!r}; it has {', '.join(suite.datasets)}")
    attack = attack_shown(suite)
    choices = choose(suite, _runs(folder / "runs.csv", dataset), folder / dataset)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        if attack is None or not choices:
            caption = f"{dataset}: {'no network is left to attack' if attack else 'this suite has no attack'}."
            alt, figure = caption, Figure(figsize=(6, 0.5))
            figure.text(0.5, 0.5, caption, ha="center", va="center")
        else:
            broken = first_broken(attack, choices, folder / dataset)
            seen = sample(*suite.load_split(dataset, "test"), broken)
            shown = [attacked(suite, dataset, choice, attack, seen, folder / dataset) for choice in choices]
            names = suite.dataset(dataset).class_names
            figure = draw(shown, seen, names, suite.threat.eps)
            caption, alt = describe(suite, dataset, attack, seen, shown), describe_predictions(seen, shown, names)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata=FORMATS["png"])
    path = folder / "examples" / f"{dataset}.png"
    write_atomically(path, buffer.getvalue())
    said = json.dumps({"caption": caption, "alt": alt}, indent=1, ensure_ascii=False)
    write_atomically(path.with_suffix(".json"), f"{said}\n".encode())
    return path


def _runs(path: Path, dataset: str) -> pd.DataFrame:
    """The rows of runs.csv that are of this data set."""
    try:
        runs = read_csv(path, {column: RUN_TYPES[column] for column in READ})
    except UserError as error:
        raise UserError(f"{error}; run reporting.collate, which writes it") from None
    return runs[(runs["dataset"] == dataset) & (runs["weights_sha256"] != "")]


def attack_shown(suite: Suite) -> str | None:
    """The suite's first PGD attack, or else its first attack; None where it has none."""
    names = {label: suite.attack(label)["name"] for label in suite.attacks}
    labels = [label for label, name in names.items() if name != "clean"]
    return next((label for label in labels if names[label].startswith("pgd-")), labels[0] if labels else None)


def choose(suite: Suite, runs: pd.DataFrame, folder: Path) -> list[Choice]:
    """Up to three variants, in the suite's order: the most accurate, its like with or without M+, the cheapest.

    Accurate: under the headline attack, in the mean of the seeds that did not diverge. Cheap: in compute. Each is shown
    by its run of the suite's first seed that did not diverge and whose weights are in `folder` (results/<suite>/<data
    set>); a variant without one is not chosen.
    """
    attack, there = headline_attack(suite), {}
    for variant in suite.variants:
        label = variant.label
        rows = runs[(runs["variant"] == label) & (runs["status"] != "diverged")]
        for seed in suite.seeds:
            run = rows[rows["seed"] == seed]
            if len(run) and (folder / label / f"seed{seed}" / "model.safetensors").exists():
                accuracy = rows.loc[rows["attack"] == attack, "accuracy"].mean()
                costs = (rows["compute"].mean(), is_mplus(variant))
                there[label] = (accuracy, *costs, seed, run["weights_sha256"].iloc[0])
                break
    left = pd.DataFrame.from_dict(
        there, orient="index", columns=["accuracy", "compute", "mplus", "seed", "weights_sha256"]
    ).sort_values("accuracy", ascending=False, kind="stable")  # variants that were not attacked last
    why: dict[str, str] = {}
    if len(left):
        best = left.iloc[0]
        why[best.name] = f"most accurate under {attack}"
        unlike = left[left["mplus"] != best["mplus"]]
        if len(unlike):
            why[unlike.index[0]] = f"most accurate {'without' if best['mplus'] else 'with'} M+"
        others = left.drop(index=list(why)).sort_values("compute", kind="stable")
        for label in others.index[: 3 - len(why)]:
            why[label] = (
                "cheapest" if others.loc[label, "compute"] <= left["compute"].min() else "cheapest of the others"
            )
    return [
        Choice(label, why[label], int(row["seed"]), row["weights_sha256"])
        for label, row in left.loc[[label for label in there if label in why]].iterrows()
    ]


def first_broken(attack: str, choices: list[Choice], folder: Path) -> Iterator[int]:
    """Places of test images that the evaluation found right when clean and broken by the attack, of any choice."""
    broken = []
    for choice in choices:
        verdicts = [
            folder / choice.variant / f"seed{choice.seed}" / "evaluate" / f"{name}.robust.npy"
            for name in ("clean", attack)
        ]
        if all(path.exists() for path in verdicts):
            clean, robust = map(_read_verdicts, verdicts)
            images = min(len(clean), len(robust))
            broken.append(np.flatnonzero(clean[:images] & ~robust[:images]))
    return iter(np.unique(np.concatenate(broken)).tolist() if broken else [])


def _read_verdicts(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not readable as verdicts ({error}); evaluate again") from None


def sample(images: Tensor, labels: Tensor, broken: Iterator[int]) -> Sample:
    """Of the test split, the first images that are of different classes, and then the first other one in `broken`."""
    places = sorted((labels == label).nonzero()[0].item() for label in labels.unique())[:IMAGES]
    more = next((place for place in broken if place not in places), None)
    places += [] if more is None else [more]
    return Sample(places, images[places].float().div(255), labels[places], more is not None)


def attacked(suite: Suite, dataset: str, choice: Choice, attack: str, seen: Sample, folder: Path) -> Examples:
    """The attack, as the suite has it, on these images alone, against the weights that the run's record names."""
    run, settings = suite.run(f"{dataset}/{choice.variant}/seed{choice.seed}"), suite.attack(attack)
    device = provenance.device()
    precision.apply("fp32")
    file = folder / choice.variant / f"seed{choice.seed}" / "model.safetensors"
    network = load_network(run, suite.dataset(dataset), file, choice.weights_sha256).to(device)
    images, labels = seen.images.to(device), seen.labels.to(device)
    verdicts = verify.attack(settings, network, images, labels, seed=settings.get("seed", 0))
    with torch.no_grad():
        before, after = (network(x).argmax(1).tolist() for x in (images, verdicts.adversarial))
    return Examples(choice, verdicts.adversarial.cpu(), before, after, verdicts.flags)


def draw(shown: list[Examples], seen: Sample, names: Sequence[str], eps: float) -> Figure:
    """A row for each image: the clean one, then each network's perturbation and adversarial image with predictions."""
    rows, widths = len(seen.places), [1.0]
    for _ in shown:
        widths += [0.25, 1.0, 1.0]
    figure = Figure(figsize=(sum(widths) * CELL + 0.2, rows * CELL * 1.22 + 0.75))
    grid = figure.add_gridspec(
        rows,
        len(widths),
        width_ratios=widths,
        wspace=0.06,
        hspace=0.24,
        left=0.015,
        right=0.985,
        bottom=0.05,
        top=1 - 0.62 / figure.get_figheight(),
    )
    for i in range(rows):
        axes = _image(figure.add_subplot(grid[i, 0]), seen.images[i])
        axes.text(0.5, -0.06, names[seen.labels[i]], transform=axes.transAxes, **BELOW)
        if i == 0:
            axes.set_title("clean", fontsize=9)
        for k, network in enumerate(shown):
            left, right = (figure.add_subplot(grid[i, 3 * k + column]) for column in (2, 3))
            _perturbation(left, network.adversarial[i] - seen.images[i], eps)
            _image(right, network.adversarial[i])
            if i == 0:
                left.set_title("perturbation", fontsize=9)
                right.set_title("adversarial", fontsize=9)
                left.text(1.03, 1.32, network.choice.variant, transform=left.transAxes, ha="center", weight="bold")
            wrong = network.after[i] != int(seen.labels[i])
            text = f"{names[network.before[i]]} → {names[network.after[i]]}" + (" ✗" if wrong else "")
            look = {"color": WRONG, "weight": "bold"} if wrong else {"color": INK}
            left.text(1.03, -0.06, text, transform=left.transAxes, **BELOW, **look)
    return figure


def _image(axes: Axes, image: Tensor) -> Axes:
    """Draw an image, (C, H, W) in [0, 1], with its pixels as squares."""
    look = {"cmap": "gray", "vmin": 0, "vmax": 1} if len(image) == 1 else {}
    axes.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), interpolation="nearest", **look)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
    return axes


def _perturbation(axes: Axes, delta: Tensor, eps: float) -> None:
    """Draw a perturbation, (C, H, W) in [-eps, eps]; grey images' in colours that tell its sign."""
    shade = (0.5 + delta / (2 * eps)).clamp(0, 1)
    _image(axes, shade)
    if len(delta) == 1:
        axes.images[0].set_cmap("RdBu_r")


def describe(suite: Suite, dataset: str, attack: str, seen: Sample, shown: list[Examples]) -> str:
    """The caption: which images, networks, attack and scale."""
    settings = suite.attack(attack)
    eps = settings["threat"]["eps"]
    options = f" (steps of {settings['step_size'] / eps:g} eps)" if "step_size" in settings else ""
    first, last = (seen.places[:-1], seen.places[-1]) if seen.chosen else (seen.places, None)
    scale = f"grey is 0, each channel {1 / (2 * eps):.3g} times as strong"
    scale = "blue is −eps, white 0, red +eps" if suite.dataset(dataset).shape[0] == 1 else scale
    sentences = [
        f"{dataset}: {attack}{options} within eps = {format_eps(eps)} against {'; '.join(map(str, shown))}.",
        f"Images: the first of the test split of different classes (numbers {', '.join(map(str, first))}), whatever "
        "the networks make of them"
        + (f"; last, the first other one that {attack} broke for one of them (number {last})." if seen.chosen else "."),
        f"Perturbation: {scale}; the attack ends where an image is misclassified, which one may be from the start.",
        "Below: the prediction before and after, ✗ where it is wrong after.",
        *(f"Flagged, {network.choice.variant}: {flag}." for network in shown for flag in network.flags),
    ]
    return " ".join(sentences)


def describe_predictions(seen: Sample, shown: list[Examples], names: Sequence[str]) -> str:
    """What is to be seen, for who cannot see it."""
    rows = []
    for i, (place, label) in enumerate(zip(seen.places, seen.labels.tolist(), strict=True)):
        said = [
            f"{network.choice.variant} says {names[network.before[i]]}, attacked {names[network.after[i]]}"
            for network in shown
        ]
        rows.append(f"Test image {place}, labelled {names[label]}: {'; '.join(said)}.")
    return " ".join(rows)


if __name__ == "__main__":
    main()
