"""Attack the checkpoint of one run and leave the record and one verdict an image.

    python -m evaluation.run configs/quick.yaml digits/pgd-7/seed0 pgd-20

An interrupted evaluation goes on after the last finished chunk when the same command is given again.
"""

import argparse
import io
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evaluation.chunks import in_chunks
from experiment import models, precision, provenance, record, slots, weights
from experiment.consistency import reason_to_evaluate
from experiment.data import sha256
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.fingerprint import fingerprint
from experiment.lock import exclusive
from experiment.quantity import threads
from experiment.suite import Run, Suite


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.run", description=__doc__.partition("\n")[0])
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("run", metavar="RUN", help="<dataset>/<variant>/seed<k>")
    parser.add_argument("attack", metavar="ATTACK", help="the label of one of the suite's attacks")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    parser.add_argument("--threads", type=threads, help="CPU threads; default: PyTorch's own choice")
    options = parser.parse_args(arguments)
    with reported(f"{options.run} {options.attack}"):
        suite = Suite.load(options.suite)
        if options.threads:
            torch.set_num_threads(options.threads)
        run = suite.run(options.run)
        folder = options.results / suite.name / run.folder
        with exclusive(folder / "evaluate" / f".{options.attack}.lock"):
            if reason_to_evaluate(suite, run, options.attack, folder) is None:
                shown = "it was already, as the suite says; nothing is done"
            else:
                with slots.gpu() as slot:
                    provenance.check_slot(slot)
                    accuracy = evaluate(suite, run, options.attack, folder)["accuracy"]
                shown = "not evaluated, the run diverged" if accuracy is None else f"{accuracy:.1%}"
        print(f"evaluated {run.folder} {options.attack}: {shown}", flush=True)


def evaluate(suite: Suite, run: Run, name: str, folder: Path) -> dict:
    """Attack the run's checkpoint; writes evaluate/<name>.json and .robust.npy in `folder`, returns the record."""
    started, settings, device = provenance.now(), suite.attack(name), provenance.device()
    trained = record.read(folder / "train.json")
    images, labels = suite.load_split(run.dataset, "test")
    data_sha256 = sha256(images, labels)
    images, labels = images[: settings["images"]], labels[: settings["images"]]
    made_of = provenance.made_of("evaluation", provenance.named_by_attack(settings, run.spec))
    robust, flags, seconds = np.zeros(0, bool), [], 0.0
    evaluated = trained["status"] != "diverged"
    parts = folder / "evaluate" / f".{name}.parts"
    for unfinished in (*parts.parent.glob(f".{name}.*.tmp"), *parts.glob(".*.tmp")):
        unfinished.unlink()  # a killed process may leave one each time
    if evaluated:
        precision.apply("fp32")
        dataset, file = suite.dataset(run.dataset), folder / "model.safetensors"
        network = load_network(run, dataset, file, trained["weights_sha256"]).to(device)
        identity = {"weights": trained["weights_sha256"], "data": data_sha256, "settings": settings}
        identity |= fingerprint(device, "fp32", made_of)
        robust, flags, seconds = in_chunks(settings, network, images, labels, parts, identity)
    correct = int(robust.sum()) if evaluated else None
    result = {
        **{"kind": "evaluation", "version": 1, "suite": suite.name, "dataset": run.dataset},
        **{"variant": run.variant, "seed": run.seed, "attack": name},
        "status": "ok" if evaluated else "not-evaluated",
        "settings": settings,
        "images": len(robust),
        "correct": correct,
        "accuracy": correct / len(robust) if evaluated else None,
        "seconds": seconds,
        "flags": flags,
        "weights_sha256": trained["weights_sha256"],
        "data_sha256": data_sha256,
        "provenance": provenance.collect(
            device,
            "fp32",
            started,
            suite.resolved,
            {"method": trained["provenance"]["sources"]["method"], **made_of},
        ),
    }
    (folder / "evaluate" / f"{name}.json").unlink(missing_ok=True)  # it would be of verdicts that are no longer there
    buffer = io.BytesIO()
    np.save(buffer, robust, allow_pickle=False)
    write_atomically(folder / "evaluate" / f"{name}.robust.npy", buffer.getvalue())
    record.write(folder / "evaluate" / f"{name}.json", result)
    shutil.rmtree(parts, ignore_errors=True)
    return result


def load_network(run: Run, dataset: Dataset, file: Path, sha256: str) -> nn.Module:
    """The run's network with the weights in `file`, which must have that digest, frozen, in evaluation mode.

    Raises UserError when they are other weights, or another network's.
    """
    built, found = models.of_run(run.spec, dataset), weights.load(file, sha256)
    try:
        built.load_state_dict(found)
    except RuntimeError:  # names, lists or shapes that are not the network's, in lines and lines
        raise UserError(f"{file} has weights of another network than the run's; train the run again") from None
    return built.eval().requires_grad_(False)


if __name__ == "__main__":
    main()
