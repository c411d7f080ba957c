import json

import pytest
import tiny
import torch

from experiment import weights as files
from experiment.suite import Suite
from training import run as training_run
from training import trainer
from training.collapse import CollapseDetector
from training.validation import Accuracies


def watched(*epochs, guessing=0.1):
    """A watch that was shown the epochs' (PGD, FGSM) accuracies, and what it said after the last."""
    watch = CollapseDetector(guessing)
    said = [watch.collapsed(Accuracies(clean=0.9, fgsm=fgsm, pgd=pgd)) for pgd, fgsm in epochs]
    return watch, said[-1]


def seen(*epochs):
    return watched(*epochs)[1]


def never_robust(*epochs, guessing=0.1):
    return watched(*epochs, guessing=guessing)[0].never_robust()


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


def test_a_fall_from_what_guessing_reaches_is_none():
    """Half of one image in two hundred is no robustness that was lost; what becomes of the run is seen at its end."""
    assert seen((0.005, 0.05), (0.0, 0.20)) is None


@pytest.mark.fault("weak")
def test_a_run_that_never_was_robust_while_single_step_accuracy_rose_has_collapsed():
    rising = [(0.0, fgsm / 100) for fgsm in range(6, 74, 4)]
    assert never_robust(*rising) == (
        3,
        "validation PGD accuracy was never above 0.0% while FGSM accuracy rose to 70.0%",
    )
    assert never_robust(*rising, (0.01, 0.05))[0] == 3, "an unlucky last epoch"


@pytest.mark.parametrize(
    ("epochs", "why"),
    [
        ([(0.0, 0.30), (0.05, 0.60), (0.30, 0.40)], "robustness that came late"),
        (
            [(0.04, 0.11), (0.075, 0.25), (0.21, 0.49), (0.305, 0.565)],
            "a hard ball: PGD accuracy is half of FGSM's",
        ),
        ([(0.01, 0.02), (0.03, 0.10), (0.04, 0.14)], "a hard task: a hundred classes, accuracies of a few percent"),
        ([(0.0, 0.0), (0.0, 0.02)], "nothing learnt yet"),
        ([(0.095, 0.095)] * 9, "a network that always says the same"),
        ([], "no epoch at all"),
    ],
)
def test_a_weak_run_that_learns_has_not_collapsed(epochs, why):
    watch = CollapseDetector(0.1)
    assert [watch.collapsed(Accuracies(0.9, fgsm, pgd)) for pgd, fgsm in epochs] == [None] * len(epochs), why
    assert watch.never_robust() is None, why


def test_what_the_run_was_survives_an_interruption():
    before, after = CollapseDetector(0.1), CollapseDetector(0.1)
    before.collapsed(Accuracies(0.9, 0.45, 0.40))
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert after.collapsed(Accuracies(0.9, 0.80, 0.01))
    assert not CollapseDetector(0.1).collapsed(Accuracies(0.9, 0.80, 0.01))
    before, after = watched((0.0, 0.1), (0.0, 0.5))[0], CollapseDetector(0.1)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert (
        after.never_robust()
        == before.never_robust()
        == (
            1,
            "validation PGD accuracy was never above 0.0% while FGSM accuracy rose to 50.0%",
        )
    )


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("weak")
def test_runs_that_are_robust_to_single_steps_alone_are_called_collapsed_and_not_evaluated_at_their_first_epoch(
    tmp_path,
):
    """Fast adversarial training in a ball far too large: 60 to 70 % under FGSM 0 % under PGD."""
    variant = {"label": "fast", "method": "fast"}
    training = {"epochs": 20, "batch_size": 64, "lr": 0.05, "validation_images": 200, "schedule": {}}
    suite = Suite.from_mapping(
        tiny.content(tiny.prepared_digits(tmp_path), checkpoint_seconds=1000)
        | {"threat": {"eps": 0.5}, "training": training, "seeds": [0, 1], "variants": [variant]}
    )
    for run in suite.runs():
        folder = tmp_path / run.folder
        folder.mkdir(parents=True)
        training_run.train(suite, run, folder)
        record = tiny.record(folder)
        assert record["status"] == "collapsed", record
        assert "was never above" in record["status_reason"]
        assert record["validation"]["pgd_accuracy"] < 0.01
        assert record["epochs"]["evaluated"] == record["epochs"]["best"] == 19


@pytest.mark.fault("weak")
@pytest.mark.parametrize(
    ("pgd", "evaluated"),
    [
        ([0.0, 0.0, 0.0, 0.0], 3),  # none is better than another: the one that learnt the longest
        ([0.05, 0.0, 0.1, 0.0], 3),  # up to what guessing reaches, that is chance
        ([0.0, 0.3, 0.2, 0.1], 1),
        ([0.2, 0.3, 0.3, 0.1], 1),  # of equal ones the first, which had the least time to overfit
    ],
)
def test_the_epoch_that_is_evaluated_is_the_first_of_the_best_or_the_last_where_none_is_better_than_guessing(
    tmp_path, monkeypatch, pgd, evaluated
):
    accuracies, weights = iter(pgd), []

    def validated(network, *_):
        weights.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return Accuracies(clean=0.9, fgsm=0.0, pgd=next(accuracies))

    monkeypatch.setattr(trainer, "validate", validated)
    suite = tiny.suite(tiny.prepared_digits(tmp_path))
    folder = tiny.train(suite, tmp_path)
    record = tiny.record(folder)
    assert record["epochs"]["evaluated"] == record["epochs"]["best"] == evaluated
    assert record["validation"]["pgd_accuracy"] == pgd[evaluated]
    kept = files.load(folder / "model.safetensors", record["weights_sha256"])
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[evaluated].items())
