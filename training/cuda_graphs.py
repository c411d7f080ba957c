"""Minibatches as recordings: on a GPU all that one does is captured once and then launched as a whole.

Launching the kernels of a minibatch one by one from Python takes longer than a GPU takes to run them. A recording
serves all minibatches of one shape under one effort. It is made outside the clock, and neither it nor the passes that
count operations and warm libraries up for it change anything that the run depends on.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from experiment.effort import Effort
from methods import Batch, Method
from training.clock import PeakMemory
from training.counts import FlopCounter, Spent
from training.learner import Learner
from training.snapshot import Snapshot

WARM_UPS = 2  # of a minibatch: libraries choose their kernels in the first, and allocate by that choice in the second


class CudaGraphs:
    """Records what is launched on a GPU as CUDA graphs, whose memory is one pool.

    generator: where what is recorded draws its random numbers; each replay advances it, as running it would have.
    stream: where recordings are made, a new one by default; libraries keep memory for each, for ever.
    """

    def __init__(self, device: torch.device, generator: torch.Generator, stream: torch.cuda.Stream | None = None):
        self._generator = generator
        self._stream = stream or torch.cuda.Stream(device)
        self._newest: torch.cuda.CUDAGraph | None = None  # kept, since a pool ends with the last graph in it

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run `function` where it will be recorded."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            function()
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Record what `function` would do to tensors and the generator, which stay as they are; returns its replay.

        Python code runs once, here. Raises RuntimeError if `function` does what cannot be recorded.
        """
        graph, state = torch.cuda.CUDAGraph(), self._generator.get_state()
        graph.register_generator_state(self._generator)
        shared = {} if self._newest is None else {"pool": self._newest.pool()}
        gc.collect()  # a tensor's graph that is still alive would tie the recording to the stream it was made on
        try:
            # The outer context is for a failure, which leaves torch.cuda.graph before it gives its stream back.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local", **shared),
            ):
                function()
        except RuntimeError:
            anew = torch.Generator(self._generator.device)  # the old one may believe that it is being recorded still
            anew.set_state(state)
            self._generator.graphsafe_set_state(anew)
            raise
        self._newest = graph
        return graph.replay


@dataclass(frozen=True)
class Recording:
    """One minibatch, recorded. spent: what it spends, but for operations; lr_scale: that of its last update."""

    replay: Callable[[], None]
    spent: Spent
    lr_scale: float


class Minibatches:
    """Trains minibatches, from recordings where `recorder` is given and can make them, else step by step.

    Either gives the same numbers. A method that is not `capturable`, or that does what cannot be recorded, is trained
    step by step. sums: float64 (3,), what `Learner.batch_statistics` is added to; cycles_momentum: whether each update
    has a momentum of its own; memory: also watches recordings, whose replays allocate nothing; log: called with a line
    of text.
    """

    def __init__(
        self,
        learner: Learner,
        method: Method,
        generator: torch.Generator,
        sums: Tensor,
        *,
        cycles_momentum: bool,
        recorder: CudaGraphs | None,
        memory: PeakMemory,
        log: Callable[[str], None],
    ):
        self._learner, self._method, self._generator, self._sums = learner, method, generator, sums
        self._recorder, self._memory, self._log = recorder, memory, log
        self._cycles_momentum = cycles_momentum
        self._recordable = recorder is not None and method.capturable
        self._recordings: dict[tuple[Effort, torch.Size], Recording | None] = {}  # None: step by step
        self._flops: dict[tuple[Effort, torch.Size], int] = {}  # that such a minibatch takes, or the last one took
        self._inputs: dict[torch.Size, Batch] = {}  # what recordings read
        self._scheduled: dict[int, Tensor] = {}  # rates and momenta that the optimizer reads, by updates a minibatch

    @property
    def recorded(self) -> bool:
        """Whether minibatches are trained from recordings."""
        return any(recording is not None for recording in self._recordings.values())

    def to_be_prepared(self, batch: Batch, effort: Effort) -> bool:
        """Whether `prepare` is to be called before such a minibatch is trained."""
        return (effort, batch.images.shape) not in self._recordings or not self._method.capturable

    def prepare(self, batch: Batch, effort: Effort) -> None:
        """Count what the minibatch takes, and warm up for and record those like it; all else stays as it is.

        One count serves all minibatches of a shape under an effort, whose work is the same. A method that is not
        capturable may work by what it finds in tensors: each of its minibatches is counted.
        """
        key = (effort, batch.images.shape)
        if self._recorder is not None and batch.images.shape not in self._inputs:
            self._inputs[batch.images.shape] = Batch(*(tensor.clone() for tensor in batch.tensors), batch.scalars)
        made, reason = self._rehearse(batch, effort)
        if made or key in self._recordings:
            return  # where state is made in the first minibatch, that one is trained step by step, and this comes again
        if reason and self._recordable:
            self._give_up(reason)
        recording = self._recorded(self._inputs[batch.images.shape], effort) if self._recordable else None
        kept = {key: value for key, value in self._recordings.items() if key[0] == effort}
        self._recordings = kept | {key: recording}

    def train(self, batch: Batch, effort: Effort, rates: list[float], momenta: list[float] | None = None) -> None:
        """Train one minibatch. rates: the learning rate of each of its updates; momenta: the momentum, if it cycles."""
        for slots, values in zip(self._slots(len(rates)), (rates, momenta), strict=True):
            for slot, value in zip(slots, values, strict=True) if slots else ():
                slot.fill_(value)
        key = (effort, batch.images.shape)
        recording = self._recordings.get(key)
        if recording is None:
            self._train(batch, effort, rates.__getitem__)
            self._learner.spent.flops += self._flops[key]
            return
        for static, given in zip(self._inputs[batch.images.shape].tensors, batch.tensors, strict=True):
            static.copy_(given)
        recording.replay()
        self._learner.spent.add(recording.spent)
        self._learner.spent.flops += self._flops[key]
        self._learner.last_rate = rates[-1] * recording.lr_scale

    def flops_of(self, function: Callable[[], None]) -> int:
        """The operations that a method's hook takes, in a rehearsal of which nothing is left."""
        before = Snapshot(self._learner, self._method, self._generator, self._sums)
        with FlopCounter() as counter:
            function()
        before.restore()
        return counter.flops

    def _train(self, batch, effort, learning_rate) -> None:
        self._learner.begin_batch(batch.labels, learning_rate, *self._slots(self._method.updates(effort)))
        self._method.train_batch(self._learner, batch, effort)
        if self._learner.average is not None and not self._method.averages_weights:
            self._learner.average.update()
        self._sums += self._learner.batch_statistics()

    def _rehearse(self, batch, effort) -> tuple[bool, str | None]:
        """Count the minibatch in passes of which nothing else is left; returns what `Snapshot.restore` does."""
        before = Snapshot(self._learner, self._method, self._generator, self._sums)
        warm_up = self._recorder is not None and (effort, batch.images.shape) not in self._recordings
        for _ in range(WARM_UPS if warm_up else 1):
            with FlopCounter() as counter:
                if warm_up:
                    self._recorder.warm_up(lambda: self._train(batch, effort, lambda done: 0.0))
                else:
                    self._train(batch, effort, lambda done: 0.0)
        self._flops[effort, batch.images.shape] = counter.flops
        return before.restore()

    def _recorded(self, batch, effort) -> Recording | None:
        learner = self._learner
        spent, last_rate = Spent(**learner.spent.as_dict()), learner.last_rate
        self._memory.start()
        try:
            # At a rate of 1 the last rate is the scale. Of the memory, what one minibatch uses beside what lives on.
            replay = self._recorder.record(lambda: self._train(batch, effort, lambda done: 1.0))
            return Recording(replay, learner.spent.since(spent), learner.last_rate)
        except RuntimeError as error:
            self._give_up(str(first(error)).partition("\n")[0])
            return None
        finally:
            learner.forget()
            learner.optimizer.zero_grad()
            self._memory.stop()
            learner.spent.set(spent)
            learner.last_rate = last_rate

    def _give_up(self, reason: str) -> None:
        self._log(f"minibatches are not recorded, but trained step by step: {reason}")
        self._recordable = False
        self._recordings.clear()

    def _slots(self, updates: int) -> tuple[tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """Where the optimizer finds the rate and the momentum of each update, each None where it is given numbers."""
        if updates not in self._scheduled:  # float32 is what the fused optimizer reads on a GPU
            self._scheduled[updates] = torch.zeros(2, updates, device=self._sums.device)
        rates, momenta = (row.unbind() for row in self._scheduled[updates])
        return rates if self._recorder else None, momenta if self._cycles_momentum else None


def first(error: BaseException) -> BaseException:
    """The error that the others came of."""
    while error.__context__ is not None:
        error = error.__context__
    return error
