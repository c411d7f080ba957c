"""A CUDA graph without a GPU: what a function does to tensors is taped, operation by operation, and played back.

As with a CUDA graph, the tape knows memory and kernels and nothing of Python: each operation reads and writes the same
memory again; numbers that Python had computed are those of the recording; no line of Python runs in a replay; the
recording itself changes nothing; and an operation whose result Python waits for cannot be recorded.
"""

import weakref

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default, torch.ops.aten.equal.default}


class NoWaiting(TorchDispatchMode):
    """Raises when Python asks for a tensor's value, for which it would wait on a GPU."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        return function(*arguments, **(options or {}))


class NoReading(TorchFunctionMode):
    """The same for what is no operation on a CPU, where values lie in reach."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if getattr(function, "__name__", None) in {"tolist", "numpy", "cpu", "__array__"}:
            raise RuntimeError(f"operation not permitted while the clock runs: {function}")
        return function(*arguments, **(options or {}))


class Tape(NoWaiting):
    def __init__(self):
        super().__init__()
        self.operations = []
        self._made, self._before = set(), {}  # addresses of memory made while taping; what other memory held

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        for tensor in tensors_in((arguments, list(options.values()))):
            address = tensor.untyped_storage().data_ptr()
            if address not in self._made and address not in self._before:
                self._before[address] = (tensor.untyped_storage(), tensor.untyped_storage().clone())
        results = super().__torch_dispatch__(function, types, arguments, options)
        self._made |= {tensor.untyped_storage().data_ptr() for tensor in tensors_in([results])} - set(self._before)
        self.operations.append((function, arguments, options, results))
        return results

    def undo(self):
        for storage, held in self._before.values():
            storage.copy_(held)
        self._before.clear()

    @torch.no_grad()
    def play(self):
        for function, arguments, options, results in self.operations:
            if not function.is_view:
                for result, again in zip(
                    tensors_in([results]), tensors_in([function(*arguments, **options)]), strict=True
                ):
                    if again.data_ptr() != result.data_ptr():
                        result.copy_(again)


class Recorder:
    """In the place of training.cuda_graphs.CudaGraphs, and tells what it was asked for."""

    def __init__(self, device, generator):
        self.generator = generator
        self.warm_ups = 0
        self.tapes = []  # weak references: a recording that nobody can replay is gone
        self.replays = []  # numbers of tapes, in the order of their replays

    def warm_up(self, function):
        self.warm_ups += 1
        function()

    def record(self, function):
        tape, state, number = Tape(), self.generator.get_state(), len(self.tapes)
        try:
            with tape:
                function()
        finally:
            tape.undo()
            self.generator.set_state(state)
        self.tapes.append(weakref.ref(tape))

        def replay():
            self.replays.append(number)
            tape.play()

        return replay


class Refusing(Recorder):
    """Can record nothing: minibatches are trained step by step, with all else as on a GPU."""

    def record(self, function):
        raise RuntimeError("nothing is recorded here")


def tensors_in(tree):
    """The tensors in nested lists and tuples, in order."""
    for item in tree:
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from tensors_in(item)
