import json

import pytest

from training.collapse import Watch
from training.validation import Accuracies


def seen(*epochs):
    """What the watch says after the last of the epochs' (PGD, FGSM) accuracies."""
    watch = Watch()
    return [watch.collapsed(Accuracies(clean=0.9, fgsm=fgsm, pgd=pgd)) for pgd, fgsm in epochs][-1]


def test_multi_step_accuracy_that_falls_while_single_step_accuracy_stays_is_collapse():
    assert seen((0.40, 0.45), (0.42, 0.46), (0.01, 0.80)) == (
        "validation PGD accuracy fell to 1.0% from 42.0% while FGSM accuracy is 80.0%"
    )


@pytest.mark.parametrize(
    ("epochs", "why"),
    [
        ([(0.40, 0.45), (0.10, 0.20)], "both fell: an unlucky epoch"),
        ([(0.05, 0.60)], "a first epoch on noise"),
        ([(0.05, 0.60), (0.10, 0.70), (0.30, 0.40)], "robustness that is still growing"),
        ([(0.40, 0.45), (0.25, 0.70)], "a drop of 15 points"),
        ([(0.40, 0.45), (0.10, 0.24)], "a gap of 14 points"),
    ],
)
def test_one_sign_alone_is_no_collapse(epochs, why):
    assert seen(*epochs) is None, why


def test_the_drop_is_measured_from_the_best_epoch_so_far():
    slow = [(0.40, 0.45), (0.30, 0.50), (0.21, 0.50)]
    assert seen(*slow) is None
    assert seen(*slow, (0.19, 0.50))


def test_a_run_that_was_never_far_up_can_collapse_too():
    assert seen((0.12, 0.20), (0.18, 0.24), (0.0, 0.55))


def test_the_run_s_best_survives_an_interruption():
    before, after = Watch(), Watch()
    before.collapsed(Accuracies(0.9, 0.45, 0.40))
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert after.collapsed(Accuracies(0.9, 0.80, 0.01))
    assert not Watch().collapsed(Accuracies(0.9, 0.80, 0.01))
