"""The clusters of FGSM-FUAP: kinds of images, as the network's features tell them apart."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLUSTERS = 50  # the authors'


class Clusters(nn.Module):
    """A head that scores clusters by the network's features, and classifies by its scores, for which it is trained."""

    def __init__(self, classifier: nn.Linear, generator: torch.Generator | None):
        """Beside `classifier`, the network's own; begun as PyTorch begins linear layers, but drawn from `generator`."""
        super().__init__()
        where = classifier.weight.device
        self.scores = nn.utils.skip_init(nn.Linear, classifier.in_features, CLUSTERS, device=where)
        self.classes = nn.utils.skip_init(nn.Linear, CLUSTERS, classifier.out_features, device=where)
        for layer in (self.scores, self.classes):
            for weight in layer.parameters():
                nn.init.uniform_(weight, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=generator)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.001, fused=True, capturable=True)

    def told(self, features: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """The cluster of each image, (B,), before a step down the loss of the logits of these features (B, D)."""
        scores = self.scores(features)
        loss(self.classes(scores.relu())).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return scores.argmax(1)
