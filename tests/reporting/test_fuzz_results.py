"""Whatever lies among the results, collating ends in tables: what cannot be used is named, once, and left out."""

import copy
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import VARIANTS, made_up_suite, write_results

from analysis.results import collate
from reporting import tables
from reporting.page import render
from reporting.trace import trace

pytestmark = [pytest.mark.slow, pytest.mark.fault("file")]

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus")}
RUN = "digits/pgd-7/seed0"
RECORDS = ["train.json", "evaluate/clean.json", "evaluate/autoattack.json"]
FILES = [*RECORDS, "epochs.csv", "evaluate/clean.robust.npy", "evaluate/autoattack.robust.npy"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@pytest.fixture(scope="module")
def suite():
    return made_up_suite(FEW, seeds=(0,), epochs=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, suite):
    return write_results(tmp_path_factory.mktemp("results"), suite, variants=FEW)


@pytest.fixture
def spoilt(folder, tmp_path):
    """A copy in which tests spoil one file again and again."""
    return shutil.copytree(folder, tmp_path / folder.name)


def paths(value, path=()):
    """Every place in nested dicts and lists, but the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def collated(suite, folder, file):
    """Collate, and check that what is not used is named, and that what is used makes tables."""
    found = collate(suite, folder)
    used = found.runs[found.runs["variant"] == "pgd-7"]
    assert "pgd+mplus" in set(found.runs["variant"])
    assert found.missing or (len(used) == 4 and (used["evaluation_status"] == "ok").all())
    for line in found.problems:
        assert file.rpartition("/")[2].partition(".")[0] in line or file == "train.json"
        assert line.isprintable()
    if not found.problems:  # else they are the tables of results without that file
        for table in tables.build(suite, found.runs):
            assert all(text.encode() for text in table.files().values())
        assert render(suite, folder).encode()
        list(trace(suite, folder, "effect", "pgd+mplus", None, "snakemake"))


FUZZED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZED
@given(data=st.data())
@pytest.mark.parametrize("file", RECORDS)
def test_a_record_in_which_any_field_is_anything_is_used_or_named(suite, folder, spoilt, file, data):
    whole = json.loads((folder / RUN / file).read_text())
    place = data.draw(st.sampled_from(list(paths(whole))))
    changed = copy.deepcopy(whole)
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[place[-1]] = data.draw(VALUES)
    elif isinstance(holder, dict):
        holder[data.draw(st.text(max_size=3))] = holder.pop(place[-1])
    (spoilt / RUN / file).write_text(json.dumps(changed))
    collated(suite, spoilt, file)


@FUZZED
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.none() | st.floats(0, 1))
@pytest.mark.parametrize("file", FILES)
def test_a_file_with_a_damaged_byte_or_without_its_end_is_used_or_named(
    suite, folder, spoilt, file, place, change, cut
):
    content = bytearray((folder / RUN / file).read_bytes())
    content[int(place * len(content))] ^= change
    (spoilt / RUN / file).write_bytes(content if cut is None else content[: int(cut * len(content))])
    collated(suite, spoilt, file)
