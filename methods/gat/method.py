"""Guided adversarial training."""

from torch import Tensor

from methods import Position
from methods.guided import Guided
from methods.losses import squared_distance


class GAT(Guided):
    """Sriramanan et al., 2020: the squared L2 distance of the probabilities, in the update and in half of the attacks.

    One step of eps. Lambda is `weight`, and `late_factor` times that from the share `late_from` of the run on.
    """

    ranges = {"weight": (0, 1000), "late_factor": (0, 100), "late_from": (0, 1)}

    weight: float
    late_factor: float
    late_from: float

    def distance(self, clean: Tensor, attacked: Tensor) -> Tensor:
        return squared_distance(clean.softmax(1), attacked.softmax(1))

    def strength(self, position: Position) -> float:
        late = position.epoch >= self.late_from * position.epochs
        return self.weight * (self.late_factor if late else 1)
