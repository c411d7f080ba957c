import torch
from hypothesis import settings

torch.set_num_threads(1)  # the tensors of the tests are small, and the machine is often shared

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")
