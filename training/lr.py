"""Learning-rate schedules, as a function of the minibatch: no state, so nothing to lose on resuming."""


def learning_rate(training: dict, minibatches: int, position: float) -> float:
    """The rate at `position` minibatches (replays advance it by fractions) out of `minibatches` of the whole run.

    training: the resolved protocol; its `schedule` is described in configs/suite.schema.yaml.
    """
    schedule, lr = training["schedule"], training["lr"]
    if schedule["name"] == "cyclic":
        peak = schedule["peak"] * minibatches
        return lr * (position / peak if position <= peak else (minibatches - position) / (minibatches - peak))
    if schedule["name"] == "multistep":
        passed = sum(position >= round(milestone * minibatches) for milestone in schedule["milestones"])
        return lr * schedule["factor"] ** passed
    return lr
