"""What an attack found of each image, and whether its record and the verdicts agree."""

from pathlib import Path

import numpy as np

from experiment.errors import UserError


def read_verdicts(path: Path, evaluation: dict) -> np.ndarray:
    """One bool an image. Raises UserError when there are none, or others than those that the record counted."""
    try:
        with open(path, "rb") as file:
            verdicts = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not readable as verdicts ({error}); delete the record and evaluate again") from None
    if verdicts.dtype != bool or verdicts.shape != (evaluation["images"],):
        raise UserError(
            f"{path}: {verdicts.dtype} of shape {verdicts.shape}; its record has {evaluation['images']} images, and a "
            "bool for each is needed; evaluate again"
        )
    if int(verdicts.sum()) != (evaluation["correct"] or 0):
        raise UserError(f"{path}: {verdicts.sum()} images robust; correct is {evaluation['correct']} in its record")
    return verdicts


def check_evaluates(path: Path, evaluation: dict, train: dict) -> None:
    """Raise UserError when an evaluation contradicts itself, or is of weights from before the run was trained again."""
    if (evaluation["status"] == "not-evaluated") != (train["status"] == "diverged"):
        raise UserError(
            f"{path}: status is {evaluation['status']!r} of a run that is {train['status']!r}; evaluate again"
        )
    if evaluation["status"] == "ok":
        if evaluation["weights_sha256"] != train["weights_sha256"]:
            raise UserError(f"{path}: weights_sha256 is not that of train.json; evaluate the trained weights again")
        correct, images = evaluation["correct"], evaluation["images"]
        if correct is None or correct > images or evaluation["accuracy"] != correct / images:
            raise UserError(f"{path}: accuracy is {evaluation['accuracy']} with {correct} of {images} images correct")
