"""Steps rules against the published run of M+DEAT, and against transcriptions of the published rules written here."""

import json
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment import plugins
from experiment.effort import Effort
from steps.accuracy import Accuracy
from steps.amata import Amata
from steps.constant import Constant
from steps.every import Every
from steps.mplus import MPlus
from steps.mplus_2021 import MPlus2021
from steps.replay import replay
from steps.rule import Statistics

EPS = 8 / 255
# Magnitudes of the 50 epochs of TrustAI/DEAT's M+DEAT run of Table 1 (mdeat_out/output_pre.log), rounded to 0.1.
PUBLISHED = [
    *(5824.9, 2829.7, 2977.4, 2693.9, 2784.9, 2880.7, 2968.2, 3028.7, 2844.7, 2850.9),
    *(2852.3, 2886.0, 2900.5, 2939.9, 2947.2, 2952.1, 2965.2, 2992.3, 2995.8, 3013.8),
    *(3008.6, 3024.5, 3031.6, 3046.8, 3053.9, 3035.4, 3189.2, 3203.4, 3236.2, 3151.5),
    *(3139.6, 3155.5, 3171.9, 3199.4, 3212.8, 3211.4, 3205.0, 3223.7, 3238.0, 3256.9),
    *(3253.6, 3303.1, 3326.6, 3346.0, 3300.1, 3315.5, 3335.8, 3344.5, 3341.3, 3367.9),
]
PUBLISHED_STEPS = [(1, 1), (2, 2), (3, 5), (4, 19), (5, 2), (6, 13), (7, 2), (8, 6)]  # steps, epochs


def deat_mplus(cls, **changed):
    return cls(**{"first": 1, "most": 8, "gamma": 1.01, "step_size": 10 / 255, "eps": EPS, **changed})


def host_mplus(cls, **changed):
    """M+PGD: steps of 2/255 from none on."""
    extra = {"host": True} if cls is MPlus2021 else {}
    return cls(**{"first": 0, "most": 7, "gamma": 1.01, "step_size": 2 / 255, "eps": EPS, **extra, **changed})


def efforts(rule, epochs, magnitude=lambda epoch: 0.0, accuracy=lambda epoch: 0.0):
    for epoch in range(epochs):
        yield rule.effort_for(epoch)
        rule.end_epoch(epoch, Statistics(magnitude(epoch), accuracy(epoch)))


def runs_of(values):
    return [(value, len(list(group))) for value, group in groupby(values)]


both_forms = pytest.mark.parametrize("cls", [MPlus, MPlus2021])


# -- M+ ---------------------------------------------------------------------------------------------------------------


@both_forms
def test_the_published_magnitudes_give_the_published_number_of_steps(cls):
    used = replay(deat_mplus(cls), PUBLISHED)
    assert runs_of(used) == PUBLISHED_STEPS
    assert sum(used) == 246


def test_m_plus_pgd_stalls_at_four_steps_and_takes_the_published_237_passes():
    magnitudes = [0.0, 3304.0, 3304.0, 2866.0, 2488.0] + [2234.0] * 45
    used = replay(host_mplus(MPlus2021), magnitudes)
    assert runs_of(used) == [(0, 1), (1, 2), (2, 1), (3, 1), (4, 45)]
    assert sum(n + 1 for n in used) == 237


@both_forms
def test_epoch_0_adds_a_step_whatever_the_magnitude_and_epoch_1_sets_the_threshold(cls):
    for rule, first in ((deat_mplus(cls), 1), (host_mplus(cls, step_size=EPS), 0)):
        assert replay(rule, [0.0, 100.0, 101.0]) == [first, first + 1, first + 1]
        assert rule.effort_for(3).steps == first + 1  # 101 is no more than 1.01 x 100
    assert replay(deat_mplus(cls), [0.0, 100.0, 101.1, 0.0]) == [1, 2, 2, 3]


@both_forms
def test_the_threshold_is_set_anew_to_the_magnitude_that_made_the_steps_grow(cls):
    rule = deat_mplus(cls)
    assert replay(rule, [9.0, 100.0, 150.0, 151.0, 151.6]) == [1, 2, 2, 3, 3]  # 151.5 is the new threshold
    assert rule.effort_for(5).steps == 4
    assert (rule.n, rule.threshold) == (4, pytest.approx(1.01 * 151.6))


@both_forms
def test_no_growth_leaves_the_threshold_where_it_is(cls):
    assert replay(deat_mplus(cls), [9.0, 100.0, 50.0, 20.0, 101.5, 0.0]) == [1, 2, 2, 2, 2, 3]


@both_forms
def test_growth_stops_at_most(cls):
    assert replay(deat_mplus(cls, most=3), [float(2**epoch) for epoch in range(8)]) == [1, 2, 2, 3, 3, 3, 3, 3]


def test_a_host_of_2021_must_grow_until_its_steps_span_the_ball():
    assert replay(host_mplus(MPlus2021), [0.0] * 8) == [0, 1, 1, 2, 3, 4, 4, 4]


def test_forced_growth_goes_past_most_and_sets_the_threshold_anew():
    rule = host_mplus(MPlus2021, most=2)
    assert replay(rule, [0.0, 100.0, 10.0, 7.0, 5.0, 1000.0]) == [0, 1, 1, 2, 3, 4]
    assert (rule.n, rule.threshold) == (4, pytest.approx(1.01 * 5))


@pytest.mark.parametrize("eps", [number / 255 for number in range(1, 17)])
def test_n_steps_of_eps_over_n_span_the_ball_whatever_the_rounding(eps):
    for n in range(1, 60):  # 7/255 / 11 * 11 is below 7/255 in floating point
        rule = host_mplus(MPlus2021, most=1, step_size=eps / n, eps=eps)
        assert max(replay(rule, [0.0] * (n + 5))) == n


@pytest.mark.parametrize("rule", [deat_mplus(MPlus2021), deat_mplus(MPlus, step_size=EPS / 4), host_mplus(MPlus)])
def test_growth_is_forced_on_nothing_else(rule):
    used = replay(rule, [0.0] * 10)
    assert used == [rule.first] + [rule.first + 1] * 9


def test_a_step_of_the_later_form_is_eps_over_n_but_no_shorter_than_step_size():
    rule = host_mplus(MPlus)
    taken = list(efforts(rule, 10, magnitude=lambda epoch: 2.0**epoch))
    assert [effort.steps for effort in taken] == [0, 1, 1, 2, 3, 4, 5, 6, 7, 7]
    assert [effort.step_size * 255 for effort in taken[1:]] == pytest.approx([8, 8, 4, 8 / 3, 2, 2, 2, 2, 2])


def test_a_step_of_2021_is_always_step_size():
    taken = efforts(host_mplus(MPlus2021), 10, magnitude=lambda epoch: 2.0**epoch)
    assert {effort.step_size for effort in taken} == {2 / 255}


def published_rule(magnitudes, *, n, most, gamma, alpha, host, adaptive):
    """(steps, step size) of each epoch, transcribed from TrustAI/DEAT: a03527b (2021) or, adaptive, 6410931 (2022)."""
    threshold, alpha_now = None, alpha
    for epoch, magnitude in enumerate(magnitudes):
        yield n, alpha_now
        if epoch == 0:
            grow = True
        elif epoch == 1:
            threshold, grow = gamma * magnitude, False
        else:
            grow = (magnitude > threshold and n < most) or (host and not adaptive and alpha * n < EPS)
            if grow:
                threshold = gamma * magnitude
        if grow:
            n += 1
            if adaptive:
                alpha_now = max(EPS / n, alpha)


magnitude_sequences = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


@given(
    magnitudes=magnitude_sequences,
    first=st.integers(0, 2),
    room=st.integers(1, 6),
    gamma=st.floats(0.9, 1.2),
    alpha=st.sampled_from([0.3 * EPS, 0.45 * EPS, 1.25 * EPS]),
    host=st.booleans(),
)
def test_both_forms_follow_the_published_scripts(magnitudes, first, room, gamma, alpha, host):
    given_ = {"first": first, "most": first + room, "gamma": gamma, "step_size": alpha, "eps": EPS}
    transcribed = {"n": first, "most": first + room, "gamma": gamma, "alpha": alpha, "host": host}
    for rule, adaptive in ((MPlus2021(**given_, host=host), False), (MPlus(**given_), True)):
        taken = list(efforts(rule, len(magnitudes), magnitude=magnitudes.__getitem__))
        expected = list(published_rule(magnitudes, **transcribed, adaptive=adaptive))
        assert [effort.steps for effort in taken] == [n for n, _ in expected]
        grown = slice(1, None)  # the scripts' epoch 0 has no step, or one longer than eps: both forms are one there
        assert [effort.step_size for effort in taken[grown]] == [step_size for _, step_size in expected[grown]]


# -- M+ with the guard ------------------------------------------------------------------------------------------------

COLLAPSE = [9.0, 100.0, 100.0, 300.0, 302.0, 302.0]  # no growth is due before M triples in epoch 3


@both_forms
def test_the_guard_refuses_to_grow_after_an_epoch_whose_magnitude_more_than_doubled(cls):
    assert replay(deat_mplus(cls), COLLAPSE) == [1, 2, 2, 2, 3, 3]
    rule = deat_mplus(cls, guard=True)
    assert replay(rule, COLLAPSE[:4]) == [1, 2, 2, 2]
    assert (rule.n, rule.threshold) == (2, pytest.approx(101))  # set in epoch 1, and not anew


@both_forms
def test_the_guard_judges_the_next_epoch_anew(cls):
    rule = deat_mplus(cls, guard=True)
    assert replay(rule, COLLAPSE) == [1, 2, 2, 2, 2, 3]  # 302 is no more than twice 300, and above 101
    assert rule.threshold == pytest.approx(1.01 * 302)
    assert replay(deat_mplus(cls, guard=True), [9.0, 100.0, 100.0, 300.0, 601.0, 601.0, 0.0])[-3:] == [2, 2, 3]


@both_forms
def test_the_guard_lets_the_magnitude_double_exactly(cls):
    assert replay(deat_mplus(cls, guard=True), [9.0, 100.0, 200.0, 0.0]) == [1, 2, 2, 3]
    assert replay(deat_mplus(cls, guard=True), [9.0, 100.0, 200.1, 0.0]) == [1, 2, 2, 2]


@both_forms
def test_the_guard_compares_no_magnitudes_of_different_numbers_of_steps(cls):
    used = replay(deat_mplus(cls, guard=True), [9.0, 100.0, 102.0, 300.0, 700.0, 0.0])
    assert used == [1, 2, 2, 3, 4, 5]  # from epoch 2 on n grows each time, so that M never has one to be compared with


def test_the_guard_refuses_forced_growth_too():
    magnitudes = [0.0, 100.0, 250.0, 250.0, 100.0, 100.0]
    assert replay(host_mplus(MPlus2021), magnitudes) == [0, 1, 1, 2, 3, 4]
    assert replay(host_mplus(MPlus2021, guard=True), magnitudes) == [0, 1, 1, 1, 2, 3]


@pytest.mark.parametrize(("before", "collapsed"), [(3503.0, 10344.0), (3137.0, 11382.0)])
def test_the_guard_sees_the_jumps_of_the_published_collapses(before, collapsed):
    """M+DEAT on WRN-34-10 (mdeat_out/output_wide_failed_alpha10.log, output_wide_lr01_failed.log)."""
    magnitudes = [2 * before, before, before, collapsed, collapsed]
    assert replay(deat_mplus(MPlus2021), magnitudes)[-1] == 3
    assert replay(deat_mplus(MPlus2021, guard=True), magnitudes)[-1] == 2


@both_forms
def test_the_guard_changes_nothing_of_the_published_run(cls):
    assert replay(deat_mplus(cls, guard=True), PUBLISHED) == replay(deat_mplus(cls), PUBLISHED)


@both_forms
@pytest.mark.parametrize("stopped_after", range(len(COLLAPSE)))
def test_the_guard_survives_an_interruption(cls, stopped_after):
    first, second = deat_mplus(cls, guard=True), deat_mplus(cls, guard=True)
    replay(first, COLLAPSE[: stopped_after + 1])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for epoch in range(stopped_after + 1, len(COLLAPSE)):
        second.end_epoch(epoch, Statistics(COLLAPSE[epoch], 0.0))
    whole = deat_mplus(cls, guard=True)
    replay(whole, COLLAPSE)
    assert second.state_dict() == whole.state_dict()


@given(magnitudes=magnitude_sequences, host=st.booleans(), adaptive=st.booleans())
def test_guarded_growth_follows_its_definition(magnitudes, host, adaptive):
    """The definition once more, over the whole history: what n was used, what M was measured."""
    cls, switches = (MPlus, {}) if adaptive else (MPlus2021, {"host": host})
    rule = deat_mplus(cls, first=0, most=3, step_size=0.4 * EPS, guard=True, **switches)
    used, threshold, n = [], None, 0
    for epoch, magnitude in enumerate(magnitudes):
        assert rule.effort_for(epoch).steps == n
        rule.end_epoch(epoch, Statistics(magnitude, 0.0))
        used.append(n)
        if epoch == 0:
            n = 1
        elif epoch == 1:
            threshold = 1.01 * magnitude
        else:
            due = (magnitude > threshold and n < 3) or (not adaptive and host and n < 3)  # 3 steps of 0.4 eps span it
            jumped = used[epoch - 1] == n and magnitude > 2 * magnitudes[epoch - 1]
            if due and not jumped:
                threshold, n = 1.01 * magnitude, n + 1


# -- the other rules --------------------------------------------------------------------------------------------------


def test_constant_is_constant():
    assert set(efforts(Constant(7, 0.1), 9, magnitude=float)) == {Constant(7, 0.1).effort_for(0)}
    assert Constant(7, 0.1).effort_for(3) == Effort(7, 0.1)


def test_every_adds_a_step_every_d_epochs_up_to_most():
    """DEAT-d of TrustAI/DEAT's FAST setting: d = 3, most 5, 12 epochs."""
    taken = list(efforts(Every(first=1, most=5, d=3, step_size=0.1), 18))
    assert runs_of(effort.steps for effort in taken) == [(1, 3), (2, 3), (3, 3), (4, 3), (5, 6)]
    assert {effort.step_size for effort in taken} == {0.1}


def test_accuracy_adds_a_step_after_an_epoch_above_the_threshold():
    """DEAT-p of TrustAI/DEAT's FAST setting for CIFAR-10: threshold 0.40, most 4."""
    accuracies = [0.30, 0.41, 0.40, 0.45, 0.39, 0.50, 0.90, 0.90]
    rule = Accuracy(first=1, most=4, threshold=0.40, step_size=0.1)
    taken = list(efforts(rule, 8, accuracy=accuracies.__getitem__))
    assert [effort.steps for effort in taken] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {effort.step_size for effort in taken} == {0.1}


def test_amata_2_10_takes_the_published_passes_and_never_10_steps():
    taken = list(efforts(Amata(first=2, most=10, total=20 / 255, epochs=50), 50))
    assert runs_of(e.steps for e in taken) == [(2, 7), (3, 6), (4, 6), (5, 6), (6, 7), (7, 6), (8, 6), (9, 6)]
    assert sum(effort.steps + 1 for effort in taken) == 322
    assert all(effort.steps * effort.step_size == pytest.approx(20 / 255) for effort in taken)


# -- all rules --------------------------------------------------------------------------------------------------------

ALL = {
    "constant": lambda: Constant(7, 0.1),
    "every": lambda: Every(first=1, most=5, d=3, step_size=0.1),
    "accuracy": lambda: Accuracy(first=1, most=4, threshold=0.4, step_size=0.1),
    "amata": lambda: Amata(first=2, most=10, total=0.3, epochs=50),
    "mplus": lambda: host_mplus(MPlus),
    "mplus-2021": lambda: host_mplus(MPlus2021),
}


@pytest.mark.parametrize("name", plugins.names("steps"))
def test_a_rule_is_built_from_a_variant_s_steps(name):
    rule = ALL[name]()
    given_ = {
        key: value for key, value in vars(rule).items() if key not in ("n", "threshold", "previous", "eps", "epochs")
    }
    if name == "accuracy":
        given_["threshold"] = rule.threshold
    assert plugins.of_spec("steps", {"rule": name, **given_}, eps=EPS, epochs=50) == rule


def test_only_the_m_plus_rules_ask_for_a_magnitude():
    asked = {name: plugins.load("steps", name).magnitude_of for name in plugins.names("steps")}
    asked = {name: which for name, which in asked.items() if which}
    assert asked == {"mplus": "update", "mplus-2021": "attack"}
