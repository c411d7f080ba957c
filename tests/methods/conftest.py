import pytest
import torch


@pytest.fixture
def float64(monkeypatch):
    """Keep float64 where float32 is asked for: rounding would flip signs of gradients and hide small errors.

    What a method makes of no tensor, such as a store, is in float64 too.
    """
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
