"""Other work on the machine is seen, and an undisturbed run is not accused of it."""

import math
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from experiment import cores
from training import disturbance, trainer
from training.clock import Clock
from training.disturbance import Load, disturbed, epoch_spread

QUIET = {
    **{"seconds": 10.0, "cpu_seconds": 9.9, "others_cores": 0.05, "usable_cores": 2, "epoch_spread": 0.05},
    **{"threads": 1, "on_cpu": True},
}


def said(**changes):
    return disturbed(**QUIET | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"others_cores": 1.0},  # an attack has the other core
        {"others_cores": None},  # not known
        {"threads": 2, "cpu_seconds": 17.0},
        {"threads": 2, "cpu_seconds": 17.0, "others_cores": 0.15},  # what a system does beside
        {"threads": 64, "usable_cores": 64, "others_cores": 1.0, "cpu_seconds": 600.0},
        {"on_cpu": False, "cpu_seconds": 2.0, "others_cores": 2.0},  # a GPU does the work
    ],
)
def test_a_run_that_had_what_it_needed_is_not_disturbed(changes):
    assert said(**changes) is None


@pytest.mark.fault("clock")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cpu_seconds": 7.1}, "it had a core for 71% of the time"),
        ({"others_cores": 1.3}, "others kept 1.3 of 2 cores busy, of which it needed 1"),
        ({"threads": 2, "others_cores": 0.5, "cpu_seconds": 17.0}, "others kept 0.5 of 2 cores busy"),
        ({"threads": 8, "others_cores": 1.0, "cpu_seconds": 17.0}, "of which it needed 2"),  # more threads than cores
        ({"epoch_spread": 0.3}, "its epochs took 30% longer than the quicker ones among them"),
        ({"on_cpu": False, "epoch_spread": 0.3}, "its epochs took 30% longer"),
    ],
)
def test_a_run_that_had_less_is_disturbed_and_the_reason_says_of_what(changes, why):
    assert why in said(**changes)


# -- epochs ------------------------------------------------------------------------------------------------------------


def rows(seconds, steps=None):
    steps = steps or [1] * len(seconds)
    return [{"seconds": s, "compute": 5.0 * k, "steps": k} for s, k in zip(seconds, steps, strict=True)]


def test_epochs_of_one_pace_have_no_spread_whatever_their_effort():
    steps = [1, 1, 2, 2, 2, 3, 3, 8]
    assert epoch_spread(rows([0.1 * k for k in steps], steps)) == pytest.approx(0)


def test_the_first_epoch_in_which_libraries_set_themselves_up_does_not_count():
    assert epoch_spread(rows([5.0, 1.0, 1.0, 1.0])) == pytest.approx(0)
    assert epoch_spread(rows([5.0])) == epoch_spread([]) == 0


@pytest.mark.fault("clock")
@pytest.mark.parametrize("slow", [3, 10, 14])
def test_the_spread_is_what_slow_epochs_cost_though_they_are_most(slow):
    seconds = [1.0] + [3.0] * slow + [1.0] * (20 - slow)
    assert epoch_spread(rows(seconds)) == pytest.approx(2 * slow / 20)


def test_the_noise_of_an_undisturbed_machine_is_below_the_limit():
    draw = np.random.default_rng(0)
    for _ in range(200):
        assert epoch_spread(rows(draw.normal(1, 0.05, 20).tolist())) < disturbance.MOST_SPREAD


# -- the machine -------------------------------------------------------------------------------------------------------


def test_load_is_summed_over_the_times_between_start_and_stop():
    own, here = iter([1.0, 3.0, 10.0, 11.0]), iter([100.0, 105.0, 200.0, 202.0])
    elsewhere = iter([1000.0, 1003.0, 1100.0, 1101.0])
    load = Load(own.__next__, here.__next__, elsewhere.__next__)
    for _ in range(2):
        load.start()
        load.stop()
    assert load.cpu_seconds == 3.0
    assert load.others_cores(seconds=8.0) == 0.5
    assert load.cores_beside(seconds=8.0) == 0.5


@pytest.mark.parametrize("busy", [math.nan, 0.0])
def test_what_the_kernel_does_not_tell_is_not_known(busy):
    load = Load(iter([0.0, 2.0]).__next__, lambda: busy, lambda: busy)
    load.start()
    load.stop()
    assert load.others_cores(seconds=2.0) is None
    assert load.cores_beside(seconds=2.0) is None


def test_without_proc_stat_or_affinity_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(cores, "STAT", tmp_path / "none")
    assert math.isnan(disturbance.busy_seconds())
    assert math.isnan(disturbance.elsewhere_seconds())
    monkeypatch.delattr(os, "sched_getaffinity")
    assert math.isnan(disturbance.busy_seconds())
    assert cores.allowed() == set(range(os.cpu_count()))


def test_only_cores_that_the_process_may_use_count_and_of_their_time_what_was_not_idle(monkeypatch, tmp_path):
    stat = tmp_path / "stat"
    lines = ["cpu 9 9 9 9 9 9 9 9 9 9", "cpu0 100 20 30 5000 700 4 5 41 60 7", "cpu1 900 0 0 0 0 0 0 0 0 0", "intr 5"]
    stat.write_text("\n".join(lines))
    monkeypatch.setattr(cores, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert disturbance.busy_seconds() == 200 / os.sysconf("SC_CLK_TCK")
    assert disturbance.elsewhere_seconds() == 900 / os.sysconf("SC_CLK_TCK")


@pytest.mark.fault("clock")
@pytest.mark.skipif(math.isnan(disturbance.busy_seconds()), reason="the kernel does not tell")
def test_processes_that_want_the_same_core_disturb_a_run_that_is_timed():
    """The same work as long as three others are given its core: it has a quarter of it, and they the rest."""
    before = os.sched_getaffinity(0)
    core = min(before)
    hog = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    with ExitStack() as stack:
        for _ in range(3):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", hog], stdout=subprocess.PIPE))
            stack.callback(other.kill)
            other.stdout.readline()
        os.sched_setaffinity(0, {core})
        stack.callback(os.sched_setaffinity, 0, before)
        clock = Clock(torch.device("cpu"))
        clock.start()
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        clock.stop()
        others = clock.load.others_cores(clock.seconds)
    assert clock.load.cpu_seconds == pytest.approx(0.2, abs=0.1)
    assert others > 0.3
    measured = {"cpu_seconds": clock.load.cpu_seconds, "others_cores": others, "usable_cores": 1}
    assert "it had a core for" in said(seconds=clock.seconds, **measured)


@pytest.mark.fault("clock")
def test_the_record_the_log_and_the_epochs_have_what_was_measured(tmp_path, monkeypatch):
    now = [0.0]

    def ticking(*_):
        now[0] += 1
        return now[0]

    load = Load(lambda: now[0] / 4, lambda: 3 * now[0], lambda: now[0] / 2)
    monkeypatch.setattr(trainer, "Clock", lambda device: Clock(device, now=ticking, load=load))
    folder = tiny.train(tiny.suite(tiny.prepared_digits(tmp_path), checkpoint_seconds=1000), tmp_path)
    cost = tiny.record(folder)["cost"]
    assert cost["cpu_seconds"] / cost["seconds"] < 0.9
    assert cost["disturbed"].startswith("it had a core for")
    assert cost["usable_cores"] == len(cores.usable())
    assert cost["cores_beside"] == pytest.approx(2 * cost["cpu_seconds"] / cost["seconds"])
    head, *lines = [line.split(",") for line in (folder / "epochs.csv").read_text().splitlines()]
    column = head.index("cpu_seconds")
    assert sum(float(line[column]) for line in lines) == pytest.approx(cost["cpu_seconds"])
    assert "cpu_seconds" in (Path(folder) / "train.log").read_text()
