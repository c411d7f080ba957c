import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from training.schedules.constant import Constant
from training.schedules.cyclic import Cyclic
from training.schedules.multistep import MultiStep


def learning_rate(schedule, minibatches, position):
    return schedule.rate(0.2, minibatches, position)


def multistep(*milestones, factor=0.1):
    return MultiStep(milestones=milestones, factor=factor)


def test_multistep_drops_at_the_first_minibatch_of_a_milestone():
    rates = [learning_rate(multistep(0.5, 0.8), 10, position) for position in range(10)]
    assert rates == pytest.approx([0.2] * 5 + [0.02] * 3 + [0.002] * 2)


@pytest.mark.parametrize(("milestone", "minibatches"), [(0.5, 25 * 391), (0.75, 50 * 391), (1 / 3, 100)])
def test_a_milestone_between_two_minibatches_is_rounded_and_still_fires(milestone, minibatches):
    """PyTorch's MultiStepLR never fires at a float such as 4887.5: several published runs lost a drop."""
    rates = [learning_rate(multistep(milestone), minibatches, position) for position in range(minibatches)]
    drop = rates.index(pytest.approx(0.02))
    assert abs(drop - milestone * minibatches) <= 0.5
    assert set(rates[:drop]) == {0.2}
    assert rates[drop:] == pytest.approx([0.02] * (minibatches - drop))


def test_replays_share_the_span_of_their_minibatch():
    assert learning_rate(multistep(0.5), 10, 4.875) == 0.2
    assert learning_rate(multistep(0.5), 10, 5.0) == pytest.approx(0.02)


def test_constant_is_constant():
    assert {learning_rate(Constant(), 7, position / 2) for position in range(14)} == {0.2}


@pytest.mark.parametrize(("position", "rate"), [(0, 0), (10, 0.1), (20, 0.2), (25, 0.2 * 15 / 20), (30, 0.1), (40, 0)])
def test_cyclic_goes_up_and_down_in_straight_lines(position, rate):
    assert learning_rate(Cyclic(peak=0.5), 40, position) == pytest.approx(rate)


@given(
    peak=st.floats(0.05, 0.95),
    minibatches=st.integers(1, 1000),
    one=st.floats(0, 1),
    other=st.floats(0, 1),
)
def test_cyclic_stays_between_0_and_lr_and_has_one_peak(peak, minibatches, one, other):
    def rate(fraction):
        return learning_rate(Cyclic(peak=peak), minibatches, fraction * minibatches)

    assert rate(peak) == pytest.approx(0.2)
    assume(abs(one - other) > 1e-6)
    early, late = sorted([one, other])
    assert -1e-12 <= rate(early) <= 0.2 + 1e-12
    if late <= peak:
        assert rate(early) < rate(late)
    if early >= peak:
        assert rate(early) > rate(late)


@pytest.mark.parametrize(("minibatches", "peak"), [(40, 0.5), (41, 0.5), (200, 0.4), (7, 0.25)])
def test_a_cyclic_schedule_is_pytorch_s_with_the_momentum_that_the_authors_of_fast_had(minibatches, peak):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    up = peak * minibatches
    scheduler = torch.optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.0, max_lr=0.2, step_size_up=up, step_size_down=minibatches - up
    )
    protocol = Cyclic(peak=peak, peak_momentum=0.8)
    for position in range(minibatches):
        (group,) = optimizer.param_groups
        assert learning_rate(protocol, minibatches, position) == pytest.approx(group["lr"], abs=1e-12)
        assert protocol.momentum(0.9, minibatches, position) == pytest.approx(group["momentum"], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_momentum_stays_unless_the_schedule_says_otherwise():
    assert not any(schedule.cycles_momentum for schedule in (Constant(), MultiStep(), Cyclic(peak=0.5)))
    assert Cyclic(peak=0.5, peak_momentum=0.0).cycles_momentum
