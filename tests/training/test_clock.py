import mmap
from pathlib import Path

import pytest
import torch

from experiment import provenance
from training import clock
from training.clock import Clock, PeakMemory

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


def test_the_clock_stands_still_while_the_run_warms_up_and_the_time_that_takes_is_kept():
    watch = Clock(CPU, now=ticking(0.0, 1.0, 1.0, 31.0, 31.0, 33.0))
    watch.start()
    with watch.warming_up():
        pass
    watch.stop()
    assert watch.seconds == 3.0
    assert watch.warmup_seconds == 30.0


# -- memory ------------------------------------------------------------------------------------------------------------

MIB = 2**20


def use(mebibytes):
    with mmap.mmap(-1, mebibytes * MIB) as memory:  # what the allocator kept from tests before is no more
        for _ in range(mebibytes):
            memory.write(bytes(MIB))


def peak(inside, outside):
    """The peak, above what the process holds, of a clock that runs while `inside` MiB are used, and once more."""
    watch, held = Clock(CPU), PeakMemory(CPU)
    held.start()
    held.stop()
    use(outside)
    watch.start()
    use(inside)
    watch.stop()
    use(outside)
    watch.start()
    watch.stop()
    return (watch.memory.bytes - held.bytes) / MIB


def resettable():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return "VmHWM" in Path("/proc/self/status").read_text()


def test_memory_that_is_used_while_the_clock_runs_is_in_the_peak_and_other_is_not():
    assert 190 < peak(inside=200, outside=20) < 260
    if resettable():
        assert peak(inside=20, outside=200) < 60


def test_where_the_kernel_does_not_let_a_process_reset_its_mark_the_peak_is_of_all_so_far(monkeypatch):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", forbidden)
    watch = Clock(CPU)
    use(200)
    watch.start()
    watch.stop()
    assert watch.memory.bytes == pytest.approx(provenance.peak_memory(CPU)[0], rel=0.02)
    assert watch.memory.bytes > 200 * MIB


def test_a_gpu_s_mark_is_reset_when_the_clock_starts_and_read_when_it_stops(monkeypatch):
    marks, order = iter([500, 300]), []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: order.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: order.append("read") or next(marks))
    watch = Clock(torch.device("cuda:0"), now=lambda: order.append("time") or 0.0)
    for _ in range(2):
        order.clear()
        watch.start()
        watch.stop()
        assert order == ["wait", "reset", "time", "wait", "time", "read"]
    assert watch.memory.bytes == 500
    assert watch.memory.of == "gpu"
