"""What captions say of the attacks: everything that a reader needs to run them again."""

import pandas as pd
import pytest
from synthetic import VARIANTS, changed, made_up_suite

from reporting.captions import describe_attacks, format_length

RUNS = pd.DataFrame(
    {
        "dataset": ["digits"] * 2,
        "attack": ["pgd-20", "autoattack"],
        "images": [360, 128],
        "evaluation_status": "ok",
        "evaluation_precision": "fp32",
    }
)


def described(*attacks, eps=8 / 255):
    suite = made_up_suite({"pgd-7": VARIANTS["pgd-7"]}, attacks=attacks)
    return describe_attacks(changed(suite, threat={"norm": "linf", "eps": eps}), RUNS)


def searching(name, size, restarts=1):
    return {"name": name, "step_size": size, "restarts": restarts, "seed": 0, "images": None}


@pytest.mark.fault("weak")
def test_step_size_and_restarts_of_every_search_are_said_once():
    text = described(
        {"name": "clean", "images": None},
        searching("pgd-20", 2 / 255),
        searching("margin-20", 2 / 255),
        searching("pgd-50", 1 / 255, 10),
        {"name": "autoattack", "images": None, "seed": 0},
    )
    assert "pgd-20, margin-20: steps of 0.25 eps, 1 restart; pgd-50: steps of 1/255, 10 restarts." in text


@pytest.mark.fault("weak")
def test_what_a_label_stands_for_and_a_radius_of_its_own_are_said():
    text = described(
        searching("pgd-20", 2 / 255),
        {**searching("pgd-20", 2 / 255, 10), "label": "pgd-20-10"},
        {**searching("margin-20", 4 / 255), "label": "far", "eps": 16 / 255},
        {"name": "autoattack", "label": "near", "eps": 4 / 255, "images": None, "seed": 0},
        {"name": "square", "label": "once", "images": None, "queries": 5, "seed": 0},
    )
    assert "pgd-20: steps of 0.25 eps, 1 restart; pgd-20-10 (pgd-20): steps of 0.25 eps, 10 restarts; " in text
    assert "far (margin-20): eps = 16/255, steps of 0.25 eps, 1 restart; near (autoattack): eps = 4/255; " in text
    assert "once (square)." in text
    assert "far: what papers call CW-20, PGD on the margin loss" in text


@pytest.mark.fault("weak")
def test_a_suite_without_such_attacks_says_nothing_of_steps():
    assert "steps" not in described({"name": "clean", "images": None}, {"name": "autoattack", "images": None})


@pytest.mark.parametrize(
    ("length", "eps", "shown"),
    [
        (0.025, 0.1, "0.25 eps"),
        (2 / 255, 8 / 255, "0.25 eps"),
        (8 / 255, 8 / 255, "1 eps"),
        (3 / 255, 7 / 255, "3/255"),
        (0.007, 0.03, "0.007"),
        (1.25 * 0.3, 0.3, "1.25 eps"),
    ],
)
def test_a_length_is_a_round_multiple_of_the_radius_or_a_number_of_255ths(length, eps, shown):
    assert format_length(length, eps) == shown
