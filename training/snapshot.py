"""All that a minibatch changes, kept so that one can be run and undone."""

import torch
from torch import Tensor

from methods import Method
from training.counts import Spent
from training.learner import Learner


class Snapshot:
    """The network, the optimizer's and the method's state, random numbers, sums and counts, as they are now."""

    def __init__(self, learner: Learner, method: Method, generator: torch.Generator, sums: Tensor):
        self._learner, self._method, self._generator = learner, method, generator
        self._of_method = dict(method.state)
        self._optimizers = [learner.optimizer, *(trained for _, trained in method.extra.values() if trained)]
        self._of_optimizers = [
            {weight: dict(state) for weight, state in optimizer.state.items()} for optimizer in self._optimizers
        ]
        tensors = [*learner.network.state_dict().values(), sums, *self._of_method.values()]
        tensors += learner.average.tensors if learner.average else []
        tensors += [tensor for module, _ in method.extra.values() for tensor in module.state_dict().values()]
        tensors += [value for kept in self._of_optimizers for state in kept.values() for value in state.values()]
        self._copies = [(tensor, tensor.clone()) for tensor in tensors if isinstance(tensor, Tensor)]
        self._random = generator.get_state()
        self._spent, self._last_rate = Spent(**learner.spent.as_dict()), learner.last_rate

    def restore(self) -> tuple[bool, str | None]:
        """Put all back; returns whether state was made meanwhile, and why what was done cannot be recorded.

        A recording goes on with the tensors that it was made with: it can hold neither the making of state nor
        another object in the place of one.
        """
        made, replaced = False, set()
        for optimizer, before in zip(self._optimizers, self._of_optimizers, strict=True):
            made_here, replaced_here = self._restore_optimizer(optimizer, before)
            made |= made_here
            replaced |= replaced_here
        now = self._method.state
        made |= bool(now.keys() - self._of_method.keys())
        rebound = [name for name, tensor in self._of_method.items() if now.get(name) is not tensor]
        self._method.state = self._of_method
        for tensor, copy in self._copies:
            tensor.copy_(copy)
        self._generator.set_state(self._random)
        self._learner.spent.set(self._spent)
        self._learner.last_rate = self._last_rate
        self._learner.forget()
        if rebound:
            return made, f"the method puts other tensors in place of state {', '.join(rebound)}"
        if replaced:
            return made, f"the optimizer puts other values in place of its state {', '.join(sorted(replaced))}"
        return made, None

    @staticmethod
    def _restore_optimizer(optimizer, kept: dict) -> tuple[bool, set[str]]:
        """Whether its state was made meanwhile, and the names of what had other objects in its place."""
        made, replaced = False, set()
        for weight, state in list(optimizer.state.items()):
            before = kept.get(weight, {})
            made |= bool(state.keys() - before.keys())
            replaced |= {name for name, value in before.items() if state.get(name) is not value}
            state.clear()
            state.update(before)
            if weight not in kept:
                del optimizer.state[weight]
        return made, replaced
