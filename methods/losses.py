"""Losses that several methods share. logits: (B, classes); labels: (B,); all are differentiable in all logits."""

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(logits)), the mean over the minibatch."""
    return F.kl_div(logits.log_softmax(1), target.log_softmax(1), reduction="batchmean", log_target=True)


def relaxed_cross_entropy(logits: Tensor, labels: Tensor, true: float | Tensor) -> Tensor:
    """Cross entropy to a target with weight `true` on the label and the rest in equal parts on the other classes.

    true: one number, or one an image, (B,). A weight of 1 - s (C - 1) / C is PyTorch's `label_smoothing=s`.
    """
    classes = logits.shape[1]
    at_label = (labels[:, None] == torch.arange(classes, device=labels.device)).to(logits.dtype)
    weight = true[:, None] if isinstance(true, Tensor) and true.dim() else true
    target = at_label * weight + (1 - at_label) * ((1 - weight) / (classes - 1))
    return -(target * logits.log_softmax(1)).sum(1).mean()


def squared_distance(one: Tensor, other: Tensor) -> Tensor:
    """||one_i - other_i||^2 summed over classes, the mean over the minibatch."""
    return (one - other).square().sum(1).mean()


def nuclear_norm(matrix: Tensor) -> Tensor:
    """The sum of the singular values of a matrix (R, C). Where it is 0, so is the gradient.

    It is the greatest <P, matrix> of all P whose singular values are at most 1, so that its gradient is the P of the
    greatest: the polar factor, whose singular values are 1, and 0 where the matrix's are. Newton-Schulz iterations find
    it by products alone; a decomposition makes a GPU wait for its error code, and could not be recorded. They are in
    float64, for each multiplies what rounding adds by 3/2: values down to float32's rounding come out as 1.
    """
    with torch.no_grad():
        polar = matrix.double()
        polar = polar / torch.linalg.vector_norm(polar).clamp_min(torch.finfo(polar.dtype).tiny)
        for _ in range(45):  # 1.5^41 is 1 / (float32's rounding); 4 more converge
            polar = torch.addmm(polar, polar, polar.mT @ polar, beta=1.5, alpha=-0.5)
    return (polar.to(matrix.dtype) * matrix).sum()
