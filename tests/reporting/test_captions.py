"""What captions say of a protocol: whatever is not the same for all variants is named."""

import pandas as pd
import pytest
import tiny

from experiment.suite import Suite
from reporting.captions import describe_protocol

NOBODY = pd.DataFrame({"hardware": [None], "precision": [None]})


def said_of(variants, **training):
    content = tiny.content("data", training=training)
    return describe_protocol(Suite.from_mapping(content | {"variants": variants}), NOBODY)


def test_variants_that_depart_alike_are_named_together_with_what_is_theirs():
    average = {"training": {"weight_averaging": {"decay": 0.9}}}
    silu = {"network": {"activation": "silu"}}
    plain = {"label": "usual", "method": "pgd"}
    said = said_of(
        [plain, *({"label": name, "method": "pgd", **average} for name in "ab"), {**plain, "label": "c", **silu}]
    )
    assert "Departures: a, b have weight_averaging (decay 0.9, warm_up True); c has activation silu." in said
    assert "ordinary epochs of each variant's own network" not in said  # an activation changes no operations
    narrow = said_of([plain, {**plain, "label": "d", "network": {"width": 8}}])
    assert "Compute is in ordinary epochs of each variant's own network. Departures: d has width 8." in narrow


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["pgd", "trades"], "in evaluation mode in trades; in training mode in the others."),
        (["trades", "mart"], "in evaluation mode in trades, mart."),
        (["pgd", "fast"], "in training mode in all."),
    ],
)
def test_the_published_modes_of_batch_norm_are_named(methods, said):
    variants = [{"label": method, "method": method} for method in methods]
    found = said_of(variants, crafting_batch_norm="published")
    assert f"Batch norm while crafting as published: {said}" in found
    assert "Departures" not in found
    assert "Batch norm" not in said_of(variants)
