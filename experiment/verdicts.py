"""What an attack found of each image, and whether its record and the verdicts agree."""

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiment.errors import UserError
from experiment.record import Record


def read_verdicts(path: Path, evaluation: Record) -> NDArray[np.bool_]:
    """One bool an image. Raises UserError when there are none, or others than those that the record counted."""
    images, correct = evaluation["images"], evaluation["correct"]
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy's, of a head that it could read with some effort
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            length = os.fstat(file.fileno()).st_size - file.tell()
            content = file.read() if length == images else b""  # memory is taken for no more than belongs there
    except Exception as error:  # of many kinds: a damaged head is anything that numpy takes for Python
        said = f"not readable as verdicts ({error}); delete the record and evaluate again"
        raise UserError(f"{path}: {said}") from None
    if kind != np.dtype(bool) or shape != (images,) or len(content) != images:
        raise UserError(
            f"{path}: {kind} of shape {shape} in {length} bytes; its record has {images} images, and a bool for each "
            "is needed; evaluate again"
        )
    if max(content, default=0) > 1:
        raise UserError(f"{path}: bytes that are no bools; delete the record and evaluate again")
    verdicts = np.frombuffer(content, bool)
    if int(verdicts.sum()) != (correct or 0):
        raise UserError(f"{path}: {verdicts.sum()} images robust; correct is {correct} in its record")
    return verdicts


def check_evaluates(path: Path, evaluation: Record, train: Record) -> None:
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
