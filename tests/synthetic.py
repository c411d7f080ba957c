"""A results folder of made-up but valid records, for tests of what is made from records."""

import csv
import json
from pathlib import Path

import numpy as np

from experiment import data, record
from experiment.suite import Suite

DISTURBED = "others kept 1.9 of 2 cores busy, of which it needed 1"
HARDWARE = "AMD EPYC 7763 64-Core Processor, 2 threads"
# By label: method, steps rule, base, passes of an epoch (in the last one, for M+), clean and PGD accuracy, steps.
VARIANTS = {
    "pgd-7": ("pgd", "constant", None, 8, 0.905, 0.520, 7),
    "pgd+mplus": ("pgd", "mplus", "pgd-7", 8, 0.912, 0.514, 7),
    "free-8": ("free", "constant", None, 8, 0.880, 0.478, 8),
    "free+mplus": ("free", "mplus", "free-8", 8, 0.893, 0.476, 8),
    "fast": ("fast", "constant", None, 2, 0.921, 0.452, 1),
    "fast+mplus": ("fast", "mplus", "fast", 3, 0.917, 0.463, 2),
    "yopo-5-3": ("yopo", "constant", None, 6, 0.876, 0.431, 5),
    "yopo+mplus": ("yopo", "mplus", "yopo-5-3", 6, 0.882, 0.428, 5),
    "deat-d": ("deat", "every", None, 5, 0.890, 0.469, 5),
    "deat+mplus": ("deat", "mplus", "deat-d", 6, 0.895, 0.480, 6),
}
ATTACKS = {"clean": 0.0, "pgd-20": 1.0, "margin-20": 1.06, "autoattack": 1.14}  # how hard, against PGD-20


def made_up_suite(
    variants=VARIANTS,
    *,
    name="quick",
    datasets=("digits",),
    seeds=(0, 1, 2),
    attacks=tuple(ATTACKS),
    epochs=24,
    network="small_cnn",
) -> Suite:
    """A suite of made-up variants."""
    content = {
        "suite": name,
        "datasets": list(datasets),
        "network": {"name": network},
        "threat": {"eps": 0.1},
        "training": {"epochs": epochs, "batch_size": 64, "lr": 0.05, "validation_images": 180},
        "evaluation": {"attacks": list(attacks)},
        "seeds": list(seeds),
        "variants": [
            {"label": label, "method": method, "steps": {"rule": rule}} | ({"base": base} if base in variants else {})
            for label, (method, rule, base, *_) in variants.items()
        ],
    }
    return Suite.from_mapping(content)


def changed(suite: Suite, **keys) -> Suite:
    """The suite with other values for some of its keys, as its resolved form has them."""
    return Suite.from_mapping(suite.resolved | keys)


def write_results(
    root: Path,
    suite: Suite,
    *,
    collapsed=(),
    diverged=(),
    disturbed=(),
    variants=VARIANTS,
    hardware=None,
    images=None,
) -> Path:
    """Write the records of every run of the suite under `root`/<suite>, and return that folder.

    collapsed, diverged, disturbed: (variant, seed) pairs; hardware: label by seed, where it is not the same for all;
    images: that every attack had; without a number 360, and 128 for AutoAttack.
    """
    folder = root / suite.name
    for dataset in suite.datasets:
        for label, settings in variants.items():
            for seed in suite.seeds:
                status = "ok"
                status = "collapsed" if (label, seed) in collapsed else status
                status = "diverged" if (label, seed) in diverged else status
                names = {"suite": suite.name, "dataset": dataset, "variant": label, "seed": seed}
                label_of = (hardware or {}).get(seed, HARDWARE)
                place = folder / dataset / label / f"seed{seed}"
                _write_run(place, suite, names, settings, status, label_of, images)
                if (label, seed) in disturbed:
                    cost = json.loads((place / "train.json").read_text())["cost"]
                    edit(place / "train.json", cost=cost | {"disturbed": DISTURBED, "seconds": 3 * cost["seconds"]})
    return folder


def data_sha256(dataset: str, split: str) -> str:
    """The digest of a split where it is known, else one as good as any."""
    return data.dataset(dataset).sha256.get(split, "3" * 64)


def edit(path: Path, **changes) -> None:
    """Change fields of a record; a value of None removes the field."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if changes.get(key, 0) is not None}))


def robust_images(images: int, correct: int) -> np.ndarray:
    """Verdicts with so many images robust, the same ones first for every attack, spread evenly over the test set."""
    difficulty = np.arange(images) * 0.618034 % 1
    return np.argsort(np.argsort(difficulty)) < correct


def write_verdicts(folder: Path, attack: str, robust: np.ndarray) -> None:
    """Put `robust` in place of an attack's verdicts, and its count into the attack's record."""
    record = folder / f"{attack}.json"
    content = json.loads(record.read_text())
    if content["status"] == "ok":
        correct, images = int(robust.sum()), len(robust)
        content |= {"images": images, "correct": correct, "accuracy": correct / images}
        record.write_text(json.dumps(content))
    np.save(folder / f"{attack}.robust.npy", robust)


def _write_run(
    place: Path, suite: Suite, names: dict, settings: tuple, status: str, hardware: str, all_images: int | None
) -> None:
    method, rule, _, most, clean, pgd, most_steps = settings
    seed, total = names["seed"], suite.training.epochs
    rng = np.random.default_rng([seed, *names["variant"].encode(), *names["dataset"].encode()])
    clean, pgd = clean + rng.normal(0, 0.006), pgd + rng.normal(0, 0.008)
    event = 2 * total // 3 if status == "collapsed" else total // 3  # the epoch of what happens to it
    completed = event + 1 if status == "diverged" else total
    share = np.ones(total) if rule == "constant" else np.ceil(np.arange(1, total + 1) * most_steps / total) / most_steps
    if rule.startswith("mplus"):
        jumps = rng.choice(np.arange(1, total), min(most_steps, total) - 1, replace=False)
        share = (1 + np.searchsorted(np.sort(jumps), np.arange(total), side="right")) / most_steps
    share = share[:completed]
    steps, passes = np.rint(share * most_steps).astype(int), np.rint(share * most * 23) / 23
    compute = passes * (1.1 if method in ("yopo", "free", "deat") else 0.75)  # crafting needs no gradients of weights
    ramp = 1 - np.exp(-(np.arange(completed) + 1) / 6)
    magnitude = 900 * ramp * (1 + rng.normal(0, 0.03, completed)) + 40 * np.arange(completed)
    curve = pgd * ramp + rng.normal(0, 0.008, completed)
    if status == "collapsed":
        curve[event:], magnitude[event:], clean, pgd = 0.03, magnitude[event:] * 3, clean + 0.03, 0.06
    seconds = passes * 23 * 0.011 * (1 + rng.normal(0, 0.02))
    provenance = {
        "hardware": {"label": hardware, "device": "cpu", "cpu": "AMD EPYC 7763 64-Core Processor", "threads": 2},
        **{"precision": "fp32", "python": "3.11.7", "packages": {"numpy": "2.4.6", "torch": "2.15.0"}},
        "git": {"commit": "0" * 40, "dirty": False},
        "suite_sha256": "1" * 64,
        "sources": {"engine": "0" * 64, "method": "2" * 64},
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:10:00+00:00",
    }
    weights = rng.bytes(32).hex()
    diverged, best = status == "diverged", int(np.argmax(curve))
    train = {
        **{"kind": "train", "version": 1, "status": status, "status_epoch": None if status == "ok" else event},
        "status_reason": {"ok": None, "collapsed": "PGD accuracy fell", "diverged": "the loss is not finite"}[status],
        **names,
        "spec": suite.run(f"{names['dataset']}/{names['variant']}/seed{seed}").spec,
        "cost": {
            **{
                "cpu_seconds": float(seconds.sum()),
                "others_cores": 0.02,
                "usable_cores": 1,
                "cores_beside": 0.98,
                "epoch_spread": 0.02,
            },
            "disturbed": None,
            **{"seconds": float(seconds.sum()), "compute": float(compute.sum()), "passes": float(passes.sum())},
            **{"forwards": float(passes.sum()), "backwards": float(passes.sum())},
            "updates": 23 * total,
            "images_per_second": float(1437 * completed / seconds.sum()),
            "peak_memory_bytes": int(450e6 + rng.integers(0, 20e6)),
            **{"peak_memory_of": "process", "warmup_seconds": 1.0, "cuda_graphs": False, "parts": 1},
        },
        "epochs": {
            **{"total": total, "completed": completed},
            **({"best": None, "evaluated": None} if diverged else {"best": best, "evaluated": best}),
        },
        "validation": None if diverged else {"clean_accuracy": 0.9, "pgd_accuracy": float(curve.max())},
        "weights_sha256": weights,
        "data_sha256": data_sha256(names["dataset"], "train"),
        "provenance": provenance,
    }
    _write(place / "train.json", train)
    _write_epochs(
        place / "epochs.csv", steps, compute, passes, seconds, magnitude if rule.startswith("mplus") else None, curve
    )
    for attack in suite.attacks:
        images = all_images or (128 if attack == "autoattack" else 360)
        accuracy = clean if attack == "clean" else max(0, pgd + (1 - ATTACKS.get(attack, 1.0)) * 0.5)
        correct = round(images * min(accuracy, 1))
        result = {"images": images, "correct": correct, "accuracy": correct / images, "status": "ok"}
        if diverged:
            result = dict.fromkeys(result, None) | {"status": "not-evaluated", "images": 0}
        settings = suite.attack(attack)
        common = {"kind": "evaluation", "version": 1, "attack": attack, "settings": settings, "flags": []}
        found = common | names | result | {"seconds": 0.0 if diverged else 12.5}
        made = {"weights_sha256": weights, "data_sha256": data_sha256(names["dataset"], "test")}
        _write(place / "evaluate" / f"{attack}.json", found | made | {"provenance": provenance})
        write_verdicts(place / "evaluate", attack, robust_images(found["images"], found["correct"] or 0))


def _write(path: Path, content: dict) -> None:
    """Without the writer's fsync, which would take most of a test's time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record.check(content, str(path)), allow_nan=False))


def _write_epochs(path: Path, steps, compute, passes, seconds, magnitude, curve) -> None:
    header = ["epoch", "seconds", "cpu_seconds", "compute", "passes", "updates", "steps", "step_size"]
    header += [
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "magnitude",
        "validation_clean_accuracy",
        "validation_fgsm_accuracy",
    ]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        of_trained = ["trained_clean_accuracy", "trained_fgsm_accuracy", "trained_pgd_accuracy"]
        writer.writerow([*header, "validation_pgd_accuracy", *of_trained])
        for epoch, pgd in enumerate(curve):
            row = [
                epoch,
                seconds[epoch],
                seconds[epoch],
                compute[epoch],
                passes[epoch],
                23,
                steps[epoch],
                0.025,
                0.05,
                1.2,
                0.5,
            ]
            row += ["" if magnitude is None else magnitude[epoch], 0.9, pgd + 0.05, max(pgd, 0)]
            writer.writerow([*row, "", "", ""])
