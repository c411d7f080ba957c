import pytest
import torch

from training import clock
from training.clock import Clock

CPU = torch.device("cpu")


def ticking(*times):
    return iter(times).__next__


def test_seconds_are_those_between_start_and_stop_alone():
    watch = Clock(CPU, now=ticking(10.0, 11.5, 100.0, 102.0))
    watch.start()
    watch.stop()
    assert watch.seconds == 1.5
    watch.start()
    assert watch.seconds == 1.5
    watch.stop()
    assert watch.seconds == 3.5


def test_a_resumed_run_counts_on_from_the_seconds_before():
    watch = Clock(CPU, seconds=60.0, now=ticking(5.0, 7.0))
    watch.start()
    watch.stop()
    assert watch.seconds == 62.0


def test_the_device_is_idle_before_either_reading(monkeypatch):
    order = []
    monkeypatch.setattr(clock, "synchronize", lambda device: order.append(f"wait for {device}"))
    watch = Clock(CPU, now=lambda: order.append("read") or 0.0)
    watch.start()
    watch.stop()
    assert order == ["wait for cpu", "read"] * 2


@pytest.mark.parametrize(("device", "waits"), [("cuda:1", [torch.device("cuda:1")]), ("cpu", [])])
def test_a_gpu_is_waited_for_and_a_cpu_is_not(monkeypatch, device, waits):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    clock.synchronize(torch.device(device))
    assert waited == waits
