"""What methods that average weights gate the average with."""

from torch import Tensor


def kept_accuracy(clean: Tensor, attacked: Tensor, labels: Tensor) -> Tensor:
    """Of the images (B,) that `clean` gets right, as many as `attacked` does: a ratio, a tensor ().

    Both are logits (B, classes). Where `clean` gets no image right the ratio is to one image.
    """
    right, still_right = (logits.argmax(1).eq(labels).sum() for logits in (clean, attacked))
    return still_right / right.clamp(min=1)
