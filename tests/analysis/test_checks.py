"""A robust accuracy that flatters is found out."""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from analysis import checks
from analysis.checks import matters, suspicions
from analysis.results import collate
from evaluation import run as evaluating
from evaluation import verify
from experiment.suite import Suite

ZERO = "there are {} points of up to {} with zero gradient! This might lead to unreliable evaluation"
SQUARE = "Square Attack has decreased the robust accuracy of {:.2%}. This might indicate that the robustness"


def evaluation(name, *, flags=(), images=400, step_size=0.025, restarts=1):
    settings = {"name": name, "step_size": step_size, "restarts": restarts, "threat": {"norm": "linf", "eps": 0.1}}
    return {"dataset": "digits", "settings": settings, "flags": list(flags), "images": images}


def judge(robust, images=400, **changed):
    """The suspicions over attacks that leave so many images robust; `changed`: settings by attack."""
    names = {name: name.replace("_", "-") for name in robust}
    evaluations = {name: evaluation(name, **{"images": images} | changed.get(key, {})) for key, name in names.items()}
    return suspicions(evaluations, {name: np.arange(images) < robust[key] for key, name in names.items()}, 10)


def test_a_run_whose_attacks_fall_in_line_is_not_suspect():
    assert judge({"clean": 390, "fgsm": 300, "pgd_20": 280, "pgd_100": 279, "margin_20": 282, "autoattack": 260}) == []


def test_a_network_that_guesses_among_ten_classes_makes_a_run_suspect():
    assert judge({"clean": 51}) == []
    assert judge({"clean": 50, "pgd_20": 40}) == [
        "clean accuracy is 12.5% of 400 images, hardly above the 10.0% of guessing"
    ]


@pytest.mark.fault("weak")
def test_few_images_must_tell_a_network_from_one_that_guesses():
    """Three of twenty are more than 12.5 %, and one network in three that guesses gets as many right."""
    assert "15.0% of 20 images" in judge({"clean": 3}, images=20)[0]
    assert judge({"clean": 5}, images=20) == []


@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        ("clean", "fgsm"),
        ("clean", "pgd_20"),
        ("fgsm", "pgd_20"),
        ("fgsm", "margin_20"),
        ("pgd_20", "pgd_100"),
        ("margin_20", "margin_100"),
        ("pgd_100", "autoattack"),
        ("margin_20", "autoattack"),
        ("fgsm", "autoattack"),
    ],
)
def test_a_stronger_attack_that_breaks_fewer_images_makes_a_run_suspect(weak, strong):
    assert judge({weak: 200, strong: 205}) == []  # half a point is allowed, and 400 images are few
    (reason,) = judge({weak: 200, strong: 206})
    for part in (weak.replace("_", "-"), strong.replace("_", "-"), "200", "206", "400"):
        assert part in reason
    assert judge({weak: 2000, strong: 2021}, images=4000) == []
    assert len(judge({weak: 2000, strong: 2035}, images=4000)) == 1


@pytest.mark.fault("weak")
@pytest.mark.parametrize("images", [4, 9, 10, 20, 128])
def test_one_image_makes_no_run_suspect_however_few_there_are(images):
    half = images // 2
    for gap in (1, -1):
        assert judge({"pgd_20": half, "margin_20": half, "autoattack": half + gap}, images=images) == []
    assert judge({"autoattack": half}, images, autoattack={"flags": [ZERO.format(1, images)]}) == []
    assert judge({"autoattack": half}, images, autoattack={"flags": [SQUARE.format(1 / images)]}) == []


@pytest.mark.fault("weak")
def test_two_images_of_ten_between_pgd_and_autoattack_are_chance_and_five_are_not():
    assert judge({"pgd_20": 8, "autoattack": 6}, images=10) == []
    assert len(judge({"pgd_20": 8, "autoattack": 3}, images=10)) == 1


def test_images_that_each_of_two_attacks_breaks_alone_widen_what_chance_explains():
    """Forty more of 400 under either; where 60 are broken by the stronger alone too, they say less."""
    weak, strong = np.zeros((2, 400), bool)
    strong[:8] = True
    found = {name: evaluation(name) for name in ("pgd-20", "pgd-100")}
    assert len(suspicions(found, {"pgd-20": weak, "pgd-100": strong}, 10)) == 1
    strong[:68], weak[8:128] = True, True
    strong[8:68] = False
    strong[128:248] = True
    assert suspicions(found, {"pgd-20": weak, "pgd-100": strong}, 10) == []


@pytest.mark.parametrize(
    ("weak", "strong", "changed"),
    [
        ("pgd_20", "margin_20", {}),
        ("fgsm", "pgd_5", {}),  # does not reach every face from every start
        ("pgd_20", "pgd_100", {"pgd_100": {"step_size": 0.001}}),
        ("pgd_20", "pgd_100", {"pgd_20": {"restarts": 5}}),
    ],
)
def test_attacks_of_which_neither_must_be_stronger_are_not_ordered(weak, strong, changed):
    assert judge({weak: 100, strong: 200}, **changed) == judge({weak: 200, strong: 100}, **changed) == []


def test_only_images_that_both_attacks_had_are_compared():
    verdicts = {"pgd-20": np.arange(400) >= 300, "autoattack": np.ones(100, bool)}
    evaluations = {name: evaluation(name) for name in verdicts}
    (reason,) = suspicions(evaluations, verdicts, 10)
    assert "100 of the same 100 images robust, more than the 0" in reason
    verdicts["pgd-20"] = ~verdicts["pgd-20"]
    assert suspicions(evaluations, verdicts, 10) == []  # 75 % against 100 %, but equal on the first 100


def judge_labelled(*attacks, images=400):
    """The suspicions over (label, settings, images left robust) of each attack."""
    evaluations, verdicts = {}, {}
    for label, settings, robust in attacks:
        evaluations[label] = evaluation(settings.pop("name"), images=images)
        eps = settings.pop("eps", 0.1)
        evaluations[label]["settings"] |= {"threat": {"norm": "linf", "eps": eps}, **settings}
        verdicts[label] = np.arange(images) < robust
    return suspicions(evaluations, verdicts, 10)


def test_attacks_are_compared_by_what_they_are_and_not_by_their_labels():
    one, ten = {"name": "pgd-20", "restarts": 1}, {"name": "pgd-20", "restarts": 10}
    assert judge_labelled(("a", dict(one), 250), ("b", dict(ten), 240)) == []
    (reason,) = judge_labelled(("a", dict(one), 230), ("b", dict(ten), 260))
    assert reason == "b leaves 260 of the same 400 images robust, more than the 230 of the weaker a"


def test_an_attack_in_a_smaller_ball_may_leave_more():
    small, usual = {"name": "pgd-20", "eps": 0.05, "step_size": 0.0125}, {"name": "fgsm"}
    assert judge_labelled(("small", dict(small), 350), ("fgsm", dict(usual), 250)) == []
    assert judge_labelled(("small", dict(small), 350), ("last", {"name": "autoattack"}, 200)) == []
    square = {"name": "square", "queries": 100}
    assert len(judge_labelled(("square", dict(square), 200), ("pgd", {"name": "pgd-20"}, 300))) == 1


@pytest.mark.parametrize("kind", ["pgd", "margin"])
def test_pgd_far_above_autoattack_makes_a_run_suspect(kind):
    assert judge({f"{kind}_20": 250, "autoattack": 200}) == []  # 12.5 points
    (reason,) = judge({f"{kind}_20": 251, "autoattack": 200})
    assert f"{kind} leaves 251" in reason
    assert judge({f"{kind}_20": 300, f"{kind}_100": 230, "autoattack": 200}) == []  # the strongest of its kind
    assert judge({f"{kind}_1": 300, "autoattack": 200}) == []  # one short step is not meant to find much


@pytest.mark.parametrize(
    "flag",
    [
        'it seems to be a randomized defense! Please use version="rand". See flags_doc.md for details.',
        "it seems that the output is a probability distribution, please be sure that the logits are used!",
        "it seems to be a dynamic defense! The evaluation with AutoAttack might be insufficient.",
        ZERO.format(300, 1000),
        ZERO.format(36, 500),
        ZERO.format(8, 64),
        SQUARE.format(0.02),
        "7 adversarial images outside the threat model do not count",
        "7 successes of the search were not confirmed and count as robust",
        "what no version has said before",
    ],
)
def test_a_warning_that_may_change_the_accuracy_makes_a_run_suspect(flag):
    for images in (360, 1000, 10_000 if not flag.startswith("7") else 1000):
        assert matters(flag, images)
    autoattack = {"autoattack": evaluation("autoattack", flags=[flag])}
    assert suspicions(autoattack, {"autoattack": np.ones(400, bool)}, 10) == [f"autoattack warns: {flag}"]


@pytest.mark.parametrize(
    ("flag", "images"),
    [
        (ZERO.format(6, 500), 128),
        (ZERO.format(26, 500), 10_000),
        (ZERO.format(4, 64), 10_000),
        (ZERO.format(3, 64), 10_000),
        (SQUARE.format(1 / 128), 128),
        (SQUARE.format(0.005), 1000),
        ("1 adversarial images outside the threat model do not count", 128),
        ("1 successes of the search were not confirmed and count as robust", 128),
    ],
)
def test_a_warning_that_cannot_change_the_accuracy_much_is_a_flag_only(flag, images):
    assert not matters(flag, images)


# -- networks that mask gradients -------------------------------------------------------------------------------------


class Quantised(nn.Module):
    """The network on images of nine grey levels: its gradient is zero everywhere."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((x * 8).round() / 8)


class Saturated(nn.Module):
    """The network with logits so large that cross entropy is flat, its gradient zero, and nothing else changed."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 1e4 * self.network(x)


def evaluated(checkpoint, tmp_path, monkeypatch, wrap, names):
    """The runs frame after evaluating the checkpoint, wrapped, as the suite evaluates."""
    folder = tmp_path / checkpoint.run.folder
    shutil.copytree(checkpoint.folder, folder)
    monkeypatch.setattr(evaluating, "load_network", lambda *_: wrap(checkpoint.network()).eval())
    for name in names:
        evaluating.evaluate(checkpoint.suite, checkpoint.run, name, folder)
    found = collate(checkpoint.suite, tmp_path)
    assert found.problems == []
    return found.runs.set_index("attack")


@pytest.mark.slow
def test_a_healthy_network_is_not_suspect(checkpoint, tmp_path, monkeypatch):
    names = checkpoint.suite.attacks
    runs = evaluated(checkpoint, tmp_path, monkeypatch, lambda network: network, names)
    assert (runs["evaluation_status"] == "ok").all()
    assert set(runs["suspect"]) == {""}


@pytest.mark.slow
def test_a_network_with_quantised_input_is_suspect(checkpoint, tmp_path, monkeypatch):
    runs = evaluated(checkpoint, tmp_path, monkeypatch, Quantised, ["clean", "pgd-20", "autoattack"])
    assert "zero gradient" in runs.loc["autoattack", "flags"]
    assert "zero gradient" in runs.loc["pgd-20", "suspect"]


@pytest.mark.slow
def test_a_network_whose_loss_saturates_is_suspect_though_no_attack_warns(checkpoint, tmp_path, monkeypatch):
    resolved = copy.deepcopy(checkpoint.suite.resolved)
    resolved["evaluation"]["attacks"][-1]["images"] = 120  # twelve would not tell
    many = dataclasses.replace(checkpoint, suite=Suite.from_mapping(resolved))
    runs = evaluated(many, tmp_path, monkeypatch, Saturated, ["clean", "pgd-20", "autoattack"])
    assert runs.loc["pgd-20", "accuracy"] > runs.loc["autoattack", "accuracy"] + checks.MASKED_GAP
    assert "pgd leaves" in runs.loc["pgd-20", "suspect"]
    assert runs.loc["autoattack", "flags"] == ""


@pytest.mark.slow
def test_a_network_that_draws_random_numbers_is_suspect(checkpoint):
    class Noisy(Quantised):
        def forward(self, x):
            return self.network(x + 0.1 * torch.randn_like(x))

    settings = checkpoint.suite.attack("autoattack")
    network, images, labels = Noisy(checkpoint.network()), checkpoint.images[:2], checkpoint.labels[:2]
    verdicts = verify.attack(settings, network, images, labels, seed=0)
    found = {"autoattack": {"settings": settings, "flags": verdicts.flags, "images": 2}}
    reasons = suspicions(found, {"autoattack": verdicts.robust.numpy()}, 10)
    assert any("randomized" in reason for reason in reasons)


@pytest.mark.fault("file")
@pytest.mark.parametrize(
    "flag",
    [
        *(
            "there are 9 points of up to 3 with zero gradient",
            f"there are {'9' * 5000} points of up to 3 with zero gradient",
        ),
        *(
            "Square Attack has decreased the robust accuracy of 1..2%",
            "Square Attack has decreased the robust accuracy of .%",
        ),
        *("Square Attack has decreased the robust accuracy of 999%", f"{'9' * 5000} successes of the search are"),
    ],
)
def test_a_flag_with_numbers_that_no_attack_gives_makes_a_run_suspect_and_no_error(flag):
    assert matters(flag, 100)
