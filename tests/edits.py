"""What an edit of each of some files makes stale, as JSON: `python edits.py FILE...` in a copy of the project.

Two suites are trained and attacked there; then each file is edited, what is stale is listed, and the file is put back.
"""

import json
import sys
from pathlib import Path

import torch
import yaml

import evaluation.run
import training.run
from analysis import digests
from experiment import consistency, provenance
from experiment.data import prepare
from experiment.suite import Run, Suite
from training.trainer import Trainer

SUITES = [Suite.from_mapping(content) for content in yaml.safe_load(Path("edits.yaml").read_text())]
RESULTS = Path("results")


def main(files: list[str]) -> None:
    torch.set_num_threads(1)
    prepare("digits", Path("data"))
    for suite in SUITES:
        for run in suite.runs():
            folder = RESULTS / suite.name / run.folder
            folder.mkdir(parents=True)
            training.run.train(suite, run, folder)
            for attack in suite.attacks:
                evaluation.run.evaluate(suite, run, attack, folder)
        found = {"sources": digests.of_sources(suite, RESULTS / suite.name), "products": {}}
        (RESULTS / suite.name / digests.NAME).write_text(json.dumps(found))
    unfinished = identities()
    assert stale(unfinished) == {}
    edits = {}
    for file in files:
        path = Path(file)
        before = path.read_bytes()
        path.write_bytes(before + b"\n# edited\n")
        edits[file] = stale(unfinished)
        path.write_bytes(before)
    print(json.dumps(edits))


def stale(unfinished: dict[str, dict[str, dict]]) -> dict[str, list[str]]:
    """What is to be made again, by kind: runs and evaluations by label, and the suites whose tables are.

    unfinished: `identities` of what half-finished work was made with; of another it is of no use.
    """
    provenance.sha256_of.cache_clear()
    found = {"runs": [], "evaluations": [], "tables": []}
    for suite in SUITES:
        for run in suite.runs():
            folder = RESULTS / suite.name / run.folder
            if consistency.reason_to_train(suite, run, folder) is not None:
                found["runs"].append(run.variant)
            for attack in suite.attacks:
                if consistency.reason_to_evaluate(suite, run, attack, folder) is not None:
                    found["evaluations"].append(f"{run.variant} {attack}")
        if digests.reason(suite, RESULTS / suite.name) is not None:
            found["tables"].append(suite.name)
    for kind, now in identities().items():
        found[kind] = [name for name, identity in now.items() if identity != unfinished[kind][name]]
    return {kind: names for kind, names in found.items() if names}


def identities() -> dict[str, dict[str, dict]]:
    """What a checkpoint of each run, and attacks' finished chunks of the first run, must be made with to be of use."""
    checkpoints, chunks = {}, {}
    for suite in SUITES:
        for run in suite.runs():
            checkpoints[run.variant] = of_checkpoint(suite, run)
        run = next(suite.runs())
        chunks |= {f"{run.variant} {attack}": of_chunks(suite, run, attack) for attack in suite.attacks}
    return {"checkpoints": checkpoints, "chunks": chunks}


def of_checkpoint(suite: Suite, run: Run) -> dict:
    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    split, device = (images, labels, images, labels), torch.device("cpu")
    return Trainer(run.spec, suite.dataset(run.dataset), split, device, Path("none"), 1)._identity


def of_chunks(suite: Suite, run: Run, attack: str) -> dict:
    class Found(Exception):
        pass

    def in_chunks(settings, network, images, labels, parts, identity):
        raise Found(identity)

    usual, evaluation.run.in_chunks = evaluation.run.in_chunks, in_chunks
    try:
        evaluation.run.evaluate(suite, run, attack, RESULTS / suite.name / run.folder)
    except Found as found:
        return found.args[0]
    finally:
        evaluation.run.in_chunks = usual
    raise AssertionError("the attack was not to be made in chunks")


if __name__ == "__main__":
    main(sys.argv[1:])
