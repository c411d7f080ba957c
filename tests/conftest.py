import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the tensors of the tests are small, and the machine is often shared

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("needs_gpu"):
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU"))
