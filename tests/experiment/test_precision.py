"""What a suite's precision means on a device."""

import pytest
import torch

from experiment import precision
from experiment.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ALL = ("auto", "fp32", "tf32", "bf16")


def with_bf16(monkeypatch, tmp_path, has):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has or including_emulation)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name: some CPU\nflags\t: fpu avx512f{' avx512_bf16' if has else ''} bmi2\n")
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)


def test_auto_is_bf16_where_the_device_has_it_and_only_a_gpu_has_tf32(monkeypatch, tmp_path):
    with_bf16(monkeypatch, tmp_path, True)
    assert [precision.resolve(one, CPU) for one in ALL] == ["bf16", "fp32", "fp32", "bf16"]
    assert [precision.resolve(one, GPU) for one in ALL] == ["bf16", "fp32", "tf32", "bf16"]


@pytest.mark.parametrize("device", [CPU, GPU])
def test_without_bf16_auto_is_fp32_and_bf16_an_error(monkeypatch, tmp_path, device):
    with_bf16(monkeypatch, tmp_path, False)
    assert precision.resolve("auto", device) == "fp32"
    with pytest.raises(UserError, match="does not compute in"):
        precision.resolve("bf16", device)


def test_where_the_cpu_cannot_be_asked_it_has_no_bf16(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "none")
    assert precision.resolve("auto", CPU) == "fp32"
