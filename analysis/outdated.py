"""What of a suite's results must be made, or made again, and why. Digests decide, never times."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from analysis import digests
from experiment import claim, consistency, record, weights
from experiment.errors import UserError
from experiment.files import write_atomically
from experiment.suite import Suite

SEEN = ".weights.json"


def reasons(suite: Suite, folder: Path) -> dict[str, str]:
    """Why each file of `folder` (results/<suite>) is to be made, as a clause, by its path from there.

    A run has train.json for its key, an evaluation its record, what is made from all records each of `digests.stages`.
    The suite's copy is there where nothing else is.
    """
    found, seen = {}, SeenWeights(folder)
    for run in sorted(suite.runs(), key=lambda run: suite.teacher(run) is not None):
        record_of = {attack: f"{run.folder}/evaluate/{attack}.json" for attack in suite.attacks}
        whys = {
            attack: consistency.reason_to_evaluate(suite, run, attack, folder / run.folder) for attack in suite.attacks
        }
        training = consistency.reason_to_train(suite, run, folder / run.folder)
        if training is None:
            training = seen.damage(run.folder, again=any(whys.values()))
        if training is None and (teacher := suite.teacher(run)) and f"{teacher.folder}/train.json" in found:
            training = "its teacher is to be trained"
        if training is not None:
            found[f"{run.folder}/train.json"] = training
            whys = dict.fromkeys(suite.attacks, "its run is to be trained")
        found |= {record_of[attack]: why for attack, why in whys.items() if why is not None}
    seen.write()
    why = f"{next(iter(found))} is to be made" if found else digests.reason(suite, folder)
    if why is not None:
        found |= dict.fromkeys(digests.stages(suite), why)
    why = claim.reason(folder, suite)
    return found if found or why is None else {claim.COPY: why}


def along_with(path: str) -> list[str]:
    """`path`, one of the files that `reasons` knows, and before it the one whose making has it made again too."""
    run, of_attack, _ = path.rpartition("/evaluate/")
    if of_attack:
        return [f"{run}/train.json", path]
    return [path] if path.endswith("/train.json") or path == claim.COPY else ["runs.csv", path]


class SeenWeights:
    """Which files of weights were found to be those that their records name.

    They are large: one whose size and time of change are as they were then is not read again. What changes a file and
    not its time is found when the file is next attacked.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._found: dict[str, list[int | str]] = {}
        self._known: Any = None
        with suppress(OSError, ValueError):
            self._known = json.loads((folder / SEEN).read_text())

    def damage(self, run: str, *, again: bool) -> str | None:
        """Why the weights in the folder of a run cannot be used, as a clause. again: read them in any case."""
        file = self._folder / run / "model.safetensors"
        try:
            named, state = record.read(file.with_name("train.json"))["weights_sha256"], file.stat()
            seen = [state.st_size, state.st_mtime_ns, named]
            if again or not isinstance(self._known, dict) or self._known.get(run) != seen:
                weights.check(file, named)
        except UserError as error:
            return str(error)
        self._found[run] = seen
        return None

    def write(self) -> None:
        """Keep what was seen, where there is anything and the folder can be written to."""
        if self._found and self._found != self._known:
            with suppress(OSError):
                write_atomically(self._folder / SEEN, json.dumps(self._found).encode())
