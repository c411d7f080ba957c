"""Attack the checkpoint of one run and leave, for each attack, a record and one verdict an image.

    python -m evaluation.run configs/quick.yaml digits/pgd-7/seed0 pgd-20

Without a name, every attack of the suite that has not been made yet; where one fails, the others are made. An
interrupted evaluation goes on after the last finished chunk when the same command is given again.
"""

import argparse
import io
import shutil
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evaluation.chunks import in_chunks
from experiment import models, precision, provenance, record, slots, weights
from experiment.consistency import reason_to_evaluate
from experiment.data import sha256
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError, cause, printable, reported
from experiment.files import write_atomically
from experiment.fingerprint import fingerprint
from experiment.lock import exclusive
from experiment.quantity import threads
from experiment.suite import Run, Suite


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.run", description=__doc__.partition("\n")[0])
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("run", metavar="RUN", help="<dataset>/<variant>/seed<k>")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="labels of attacks of the suite; default: all")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    parser.add_argument("--threads", type=threads, help="CPU threads; default: PyTorch's own choice")
    options = parser.parse_args(arguments)
    with reported(" ".join([options.run, *options.attacks])):
        suite = Suite.load(options.suite)
        if options.threads:
            torch.set_num_threads(options.threads)
        run, names = suite.run(options.run), options.attacks or suite.attacks
        folder = options.results / suite.name / run.folder
        for name in names:
            suite.attack(name)  # what it has none of is said before work starts
        due = [name for name in names if reason_to_evaluate(suite, run, name, folder) is not None]
        with slots.gpu() if due else nullcontext() as slot:
            if due:
                provenance.check_slot(slot)
            failed = [name for name in names if not attacked(suite, run, name, folder)]
        if failed:
            sys.exit(1)


def attacked(suite: Suite, run: Run, name: str, folder: Path) -> bool:
    """Make one attack, unless it is there as the suite says, and tell the user; False where it failed."""
    try:
        with exclusive(folder / "evaluate" / f".{name}.lock"):
            if reason_to_evaluate(suite, run, name, folder) is None:
                shown = "it was already, as the suite says; nothing is done"
            else:
                accuracy = evaluate(suite, run, name, folder)["accuracy"]
                shown = "not evaluated, the run diverged" if accuracy is None else f"{accuracy:.1%}"
    except Exception as error:  # of whatever kind, the other attacks are not to suffer
        if (sentence := cause(error)) is None:
            traceback.print_exc()
            sentence = f"{type(error).__name__}, see above"
        print(printable(f"error: {run.folder} {name}: {sentence}"), file=sys.stderr)
        return False
    print(f"evaluated {run.folder} {name}: {shown}", flush=True)
    return True


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
