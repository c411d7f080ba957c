"""Whatever the files of a results folder hold, they are collated and reported, or named and left out."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import VARIANTS, resolved_suite, write_results

from evaluation import tables
from evaluation.collate import collate
from evaluation.report import render
from experiment import record
from experiment.errors import UserError

pytestmark = pytest.mark.fault("file")

FEW = {label: VARIANTS[label] for label in ("pgd-7", "pgd+mplus")}
RUN = "digits/pgd-7/seed0"
FILES = ["train.json", "epochs.csv", "evaluate/clean.json", "evaluate/autoattack.json", "evaluate/pgd-20.robust.npy"]
VALUES = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
        st.sampled_from([-1, 0, 10**400, 1e300, "\ud800", "\x1b[31m", "<script>", "nan", ""]),
    ),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3),
    max_leaves=5,
)


def places(value, path=()):
    """The path to everything in nested dicts and lists."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


@pytest.fixture(scope="module")
def resolved():
    return resolved_suite(FEW, seeds=(0,), epochs=4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, resolved):
    return write_results(tmp_path_factory.mktemp("whole"), resolved, variants=FEW)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, whole):
    return shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "quick")


def check(resolved, folder, path):
    """The only file that is ever named is the one at `path`; where it is used, all that is made of records is made."""
    found = collate(resolved, folder)
    assert "pgd+mplus" in set(found.runs["variant"])
    assert all(problem.startswith(f"{path}: ") for problem in found.problems)
    if not found.problems:
        for table in tables.build(resolved, found.runs):
            for text in table.files().values():
                text.encode()
        render(resolved, folder).encode()


@given(data=st.data())
def test_a_record_in_which_anything_is_changed_is_used_or_named(resolved, whole, folder, data):
    file = data.draw(st.sampled_from([file for file in FILES if file.endswith(".json")]))
    path, content = folder / RUN / file, json.loads((whole / RUN / file).read_text())
    *way, last = data.draw(st.sampled_from([place for place in places(content) if place]))
    parent = content
    for key in way:
        parent = parent[key]
    if data.draw(st.booleans()):
        parent[last] = data.draw(VALUES)
    else:
        del parent[last]
    path.write_text(json.dumps(content))
    try:
        check(resolved, folder, path)
    finally:
        shutil.copy(whole / RUN / file, path)


@given(data=st.data())
def test_a_file_in_which_any_bytes_are_changed_is_used_or_named(resolved, whole, folder, data):
    file = data.draw(st.sampled_from(FILES))
    path, content = folder / RUN / file, (whole / RUN / file).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=40)) + content[end:])
    try:
        check(resolved, folder, path)
    finally:
        shutil.copy(whole / RUN / file, path)


@given(text=st.text() | VALUES.map(json.dumps) | st.integers(1, 100_000).map(lambda depth: "[" * depth))
def test_a_text_that_is_no_record_is_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("record") / "train.json"
    path.write_text(text, errors="surrogatepass")
    with pytest.raises(UserError) as error:
        record.read(path)
    assert str(error.value).startswith(f"{path}: ")
