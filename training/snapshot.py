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
        self._of_optimizer = {weight: dict(state) for weight, state in learner.optimizer.state.items()}
        tensors = [*learner.network.state_dict().values(), sums, *self._of_method.values()]
        tensors += [value for state in self._of_optimizer.values() for value in state.values()]
        self._copies = [(tensor, tensor.clone()) for tensor in tensors if isinstance(tensor, Tensor)]
        self._random = generator.get_state()
        self._spent, self._last_rate = Spent(**learner.spent.as_dict()), learner.last_rate

    def restore(self) -> tuple[bool, str | None]:
        """Put all back; returns whether state was made meanwhile, and why what was done cannot be recorded.

        A recording goes on with the tensors that it was made with: it can hold neither the making of state nor
        another object in the place of one.
        """
        made, replaced = self._restore_optimizer()
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

    def _restore_optimizer(self) -> tuple[bool, set[str]]:
        """Whether its state was made meanwhile, and the names of what had other objects in its place."""
        made, replaced = False, set()
        for weight, state in list(self._learner.optimizer.state.items()):
            before = self._of_optimizer.get(weight, {})
            made |= bool(state.keys() - before.keys())
            replaced |= {name for name, value in before.items() if state.get(name) is not value}
            state.clear()
            state.update(before)
            if weight not in self._of_optimizer:
                del self._learner.optimizer.state[weight]
        return made, replaced
