"""Signs that a run's robust accuracy is not to be believed; a run with any of them is `suspect`.

Three kinds, all from records alone:

- A network that learnt nothing. Its clean accuracy is that of guessing, and so are its robust ones: a mean with it in
  describes no network.
- Attacks that disagree. On the same images (the first n that both had) a stronger attack must not leave more images
  robust than a weaker one, up to half a point: clean >= fgsm >= pgd-K, margin-K >= autoattack, and among pgd-K, as
  among margin-K, by K and by restarts; each attack's file says which others it outdoes. Nor may a search along
  gradients, such as PGD, leave over ten points more than AutoAttack, which looks past masked ones (Croce & Hein, 2020;
  Athalye et al., 2018).
- What an attack warned of. Every flag stays in the record, in runs.csv and under the table. It also makes the run
  suspect unless it cannot matter: dead units give healthy networks a few points of zero gradient, and on a hundred
  images Square is said to have improved on the others when it broke one. So zero gradients count above 5 % of a batch
  and Square's gain above half a point. Adversarial images outside the threat model and successes that the network
  itself does not confirm are no sample of anything but faults: they count above the half point or one image.

The images are a sample, and one of them must not make a run suspect: what is compared with a threshold is so by a test
at 5 % that on all images it would be above it, paired by image where two attacks are compared.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import LEVEL, gap_p, share_p
from experiment.attacks import of_settings
from experiment.record import Record

TOLERANCE = 0.005  # of the images
MASKED_GAP = 0.10
GUESSING = 1.25  # times the accuracy of a network that always says the same
ZERO_GRADIENTS = 0.05  # of a batch
GRADIENTS, ENSEMBLE = 2, 3  # strengths of attacks: evaluation/attacks/attack.py


def suspicions(evaluations: Mapping[str, Record], verdicts: Mapping[str, NDArray[np.bool_]], classes: int) -> list[str]:
    """Why the run behind these evaluations is suspect, a phrase a reason; [] where nothing speaks against it.

    evaluations: the records that have an accuracy, by attack; verdicts: (images,) bool of the same, in test-set order;
    classes: of the data set.
    """
    return [
        *_guessing(evaluations, verdicts, classes),
        *_disorder(evaluations, verdicts),
        *_masked(evaluations, verdicts),
        *(
            f"{attack} warns: {flag}"
            for attack, evaluation in evaluations.items()
            for flag in evaluation["flags"]
            if matters(flag, evaluation["images"])
        ),
    ]


def matters(flag: str, images: int) -> bool:
    """Whether an attack's flag makes the accuracy over that many images doubtful; one that is not known does."""
    if found := re.search(r"there are (\d{1,9}) points of up to (\d{1,9}) with zero gradient", flag):
        batch = min(images, int(found[2]))
        return share_p(min(int(found[1]), batch), batch, ZERO_GRADIENTS) < LEVEL
    if found := re.search(r"Square Attack has decreased the robust accuracy of (\d{1,3}(?:\.\d+)?)%", flag):
        count = min(images, round(float(found[1]) / 100 * images))
        return count > 1 and share_p(count, images, TOLERANCE) < LEVEL
    if found := re.match(r"(\d{1,9}) (adversarial images outside the threat model|successes of the search) ", flag):
        return int(found[1]) > max(1, TOLERANCE * images)
    return True


def _guessing(
    evaluations: Mapping[str, Record], verdicts: Mapping[str, NDArray[np.bool_]], classes: int
) -> Iterator[str]:
    if "clean" in evaluations:
        right, chance = verdicts["clean"], 1 / classes
        if right.mean() <= GUESSING * chance or share_p(int(right.sum()), len(right), chance) >= LEVEL:
            said = f"clean accuracy is {right.mean():.1%} of {len(right)} images"
            yield f"{said}, hardly above the {chance:.1%} of guessing"


def _disorder(evaluations: Mapping[str, Record], verdicts: Mapping[str, NDArray[np.bool_]]) -> Iterator[str]:
    found = {label: of_settings(evaluation["settings"]) for label, evaluation in evaluations.items()}
    for weak, strong in permutations(found, 2):
        if found[strong].outdoes(found[weak]):
            above, below = _common(verdicts[weak], verdicts[strong])
            if gap_p(below, above, TOLERANCE) < LEVEL:
                yield (
                    f"{strong} leaves {below.sum()} of the same {len(below)} images robust, "
                    f"more than the {above.sum()} of the weaker {weak}"
                )


def _masked(evaluations: Mapping[str, Record], verdicts: Mapping[str, NDArray[np.bool_]]) -> Iterator[str]:
    found = {label: of_settings(evaluation["settings"]) for label, evaluation in evaluations.items()}
    for last in (label for label, attack in found.items() if attack.strength == ENSEMBLE):
        searches: dict[str, list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]] = {}
        for label, attack in found.items():
            if attack.strength == GRADIENTS and attack.reach >= 1 and attack.eps >= found[last].eps:
                kind = evaluations[label]["settings"]["name"].partition("-")[0]
                searches.setdefault(kind, []).append(_common(verdicts[label], verdicts[last]))
        for kind, pairs in searches.items():
            left, by_last = min(pairs, key=lambda both: both[0].mean())
            if gap_p(left, by_last, MASKED_GAP) < LEVEL:
                yield f"{kind} leaves {left.sum()} of the same {len(left)} images robust, {last} only {by_last.sum()}"


def _common(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The verdicts of both on the images that both had."""
    n = min(len(one), len(other))
    return one[:n], other[:n]
