"""Train one run and leave its record, its epochs and its weights.

    python -m training.run configs/quick.yaml digits/pgd-7/seed0

An interrupted run goes on from its last checkpoint when the same command is given again.
One that is done is left alone.
"""

import argparse
import csv
import io
import shutil
from pathlib import Path

import torch

from experiment import cores, provenance, record, slots, weights
from experiment.consistency import reason_to_train
from experiment.data import sha256
from experiment.datasets.dataset import train_validation_split
from experiment.errors import UserError, reported
from experiment.files import open_own, write_atomically
from experiment.lock import exclusive
from experiment.quantity import threads
from experiment.suite import Run, Suite
from training import disturbance, teacher
from training.trainer import Trainer


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__.partition("\n")[0])
    parser.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or - for standard input")
    parser.add_argument("run", metavar="RUN", help="<dataset>/<variant>/seed<k>")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
    parser.add_argument("--threads", type=threads, help="CPU threads at most; default: PyTorch's own choice")
    options = parser.parse_args(arguments)
    with reported(options.run):
        suite = Suite.load(options.suite)
        torch.set_num_threads(min(t for t in (options.threads, suite.threads, torch.get_num_threads()) if t))
        run = suite.run(options.run)
        print(f"train     {run.folder}", flush=True)
        folder = options.results / suite.name / run.folder
        with exclusive(folder / ".lock"):
            if is_trained(suite, run, folder):
                summary = "it was already, as the suite says; nothing is done"
            else:
                with slots.gpu() as slot, slots.timed(slot, torch.get_num_threads()):
                    provenance.check_slot(slot)
                    summary = train(suite, run, folder)
        print(f"trained   {run.folder}: {summary}", flush=True)


def is_trained(suite: Suite, run: Run, folder: Path) -> bool:
    """Whether `folder` holds all that training `run` would leave there, the weights that its record names included."""
    if reason_to_train(suite, run, folder) is not None:
        return False
    try:
        weights.load(folder / "model.safetensors", record.read(folder / "train.json")["weights_sha256"])
    except UserError:
        return False
    return True


def train(suite: Suite, run: Run, folder: Path) -> str:
    """Train `run` and write its files into `folder`; returns what to tell the user, in a few words."""
    device, training = provenance.device(), run.spec["training"]
    dataset = suite.dataset(run.dataset)
    images, labels = suite.load_split(run.dataset, "train")
    split = train_validation_split(images, labels, training["validation_images"], training["max_train_images"])
    resume, taught = folder / "resume", None
    if (of := suite.teacher(run)) is not None:
        beside = folder.parents[len(Path(run.folder).parts) - 1] / of.folder
        taught = teacher.load(of, dataset, beside, run, device)
    for unfinished in (*folder.glob(".*.tmp"), *resume.glob(".*.tmp")):
        unfinished.unlink()  # a killed process may leave one each time, as large as a checkpoint
    with open_own(folder / "train.log", "a" if resume.exists() else "w") as log:
        trainer = Trainer(
            run.spec,
            dataset,
            split,
            device,
            resume,
            suite.checkpoint_seconds,
            teacher=taught,
            log=lambda line: print(line, file=log, flush=True),
        )
        if trainer.starts_anew:
            print(f"train     {run.folder}: {trainer.starts_anew}", flush=True)
        trainer.train()
    evaluated, kept = trainer.weights
    spent = cost(trainer)
    (folder / "train.json").unlink(missing_ok=True)  # it would name weights that are no longer there
    weights_sha256 = weights.save(folder / "model.safetensors", kept)
    write_epochs(folder / "epochs.csv", trainer.rows)
    record.write(
        folder / "train.json",
        {
            **{"kind": "train", "version": 1, "suite": suite.name, "dataset": run.dataset},
            **{"variant": run.variant, "seed": run.seed},
            "status": trainer.status,
            "status_epoch": trainer.status_epoch,
            "status_reason": trainer.status_reason,
            "spec": run.spec,
            "cost": spent,
            **({"teacher": taught.described} if taught else {}),
            "epochs": {
                "total": training["epochs"],
                "completed": len(trainer.rows),
                "best": trainer.best["epoch"] if trainer.best else None,
                "evaluated": evaluated,
            },
            "validation": validation_at(trainer.rows, evaluated),
            "weights_sha256": weights_sha256,
            "data_sha256": sha256(images, labels),
            "provenance": provenance.collect(
                device, trainer.precision, trainer.started, suite.resolved, trainer.made_of
            ),
        },
    )
    shutil.rmtree(resume, ignore_errors=True)
    took = f"{spent['seconds']:.1f} s, {spent['passes']:.4g} passes, {spent['compute']:.4g} epochs' compute"
    ended = trainer.status + (f" at epoch {trainer.status_epoch}" if trainer.status != "ok" else "")
    return f"{took}, {ended}" + (f"; timed beside other work: {spent['disturbed']}" if spent["disturbed"] else "")


def cost(trainer: Trainer) -> dict:
    """What the run took, by the clock and by count."""
    seconds = trainer.clock.seconds
    memory, load = trainer.clock.memory, trainer.clock.load
    measured = {
        **{"cpu_seconds": load.cpu_seconds, "others_cores": load.others_cores(seconds)},
        **{"usable_cores": len(cores.usable()), "epoch_spread": disturbance.epoch_spread(trainer.rows)},
    }
    return {
        "seconds": seconds,
        **measured,
        "disturbed": disturbance.disturbed(
            seconds=seconds, threads=torch.get_num_threads(), on_cpu=trainer.device.type == "cpu", **measured
        ),
        "cores_beside": load.cores_beside(seconds),
        **trainer.spent,
        "images_per_second": len(trainer.rows) * len(trainer.batches.images) / seconds,
        "peak_memory_bytes": memory.bytes,
        "peak_memory_of": memory.of,
        "warmup_seconds": trainer.clock.warmup_seconds,
        "cuda_graphs": trainer.cuda_graphs,
        "parts": trainer.parts,
    }


def validation_at(rows: list[dict], epoch: int | None) -> dict | None:
    """Validation accuracies at the epoch that is evaluated."""
    if epoch is None:
        return None
    row = rows[epoch]
    return {"clean_accuracy": row["validation_clean_accuracy"], "pgd_accuracy": row["validation_pgd_accuracy"]}


def write_epochs(path: Path, rows: list[dict]) -> None:
    """epochs.csv: one row an epoch; empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


if __name__ == "__main__":
    main()
