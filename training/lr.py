"""Learning rate and momentum, as functions of the minibatch: no state, so nothing to lose on resuming."""


def learning_rate(training: dict, minibatches: int, position: float) -> float:
    """The rate at `position` minibatches (replays advance it by fractions) out of `minibatches` of the whole run.

    training: the resolved protocol; its `schedule` is described in configs/suite.schema.yaml.
    """
    schedule, lr = training["schedule"], training["lr"]
    if schedule["name"] == "cyclic":
        return lr * _climbed(schedule, minibatches, position)
    if schedule["name"] == "multistep":
        passed = sum(position >= round(milestone * minibatches) for milestone in schedule["milestones"])
        return lr * schedule["factor"] ** passed
    return lr


def cycles_momentum(training: dict) -> bool:
    """Whether momentum changes over the run, and `momentum` says how."""
    return training["schedule"]["peak_momentum"] is not None


def momentum(training: dict, minibatches: int, position: float) -> float:
    """The momentum there: highest where the rate is 0 and lowest, `peak_momentum`, where the rate is highest."""
    highest, lowest = training["momentum"], training["schedule"]["peak_momentum"]
    return highest - (highest - lowest) * _climbed(training["schedule"], minibatches, position)


def _climbed(schedule: dict, minibatches: int, position: float) -> float:
    """How far a cyclic schedule is from 0, at both ends of the run, to 1, at its peak."""
    peak = schedule["peak"] * minibatches
    return position / peak if position <= peak else (minibatches - position) / (minibatches - peak)
