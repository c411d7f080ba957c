"""What the suite writes never ends in a file that is not its own."""

import os

import pytest

from experiment.errors import UserError
from experiment.files import open_own, write_atomically

pytestmark = pytest.mark.fault("file")


@pytest.fixture
def precious(tmp_path):
    file = tmp_path / "thesis.tex"
    file.write_text("years of work")
    return file


def test_a_link_where_a_file_is_written_whole_is_replaced(tmp_path, precious):
    (tmp_path / "train.json").symlink_to(precious)
    write_atomically(tmp_path / "train.json", b"{}")
    assert precious.read_text() == "years of work"
    assert not (tmp_path / "train.json").is_symlink()
    assert (tmp_path / "train.json").read_bytes() == b"{}"


def test_a_link_under_the_name_of_an_unfinished_file_is_replaced(tmp_path, precious):
    (tmp_path / f".train.json.{os.getpid()}.tmp").symlink_to(precious)
    write_atomically(tmp_path / "train.json", b"{}")
    assert precious.read_text() == "years of work"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["thesis.tex", "train.json"]


@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_link_where_a_file_is_written_bit_by_bit_is_refused(tmp_path, precious, mode):
    (tmp_path / "train.log").symlink_to(precious)
    with pytest.raises(UserError, match=r"train\.log is a symbolic link"):
        open_own(tmp_path / "train.log", mode)
    assert precious.read_text() == "years of work"


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    path.write_bytes(b"before")
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *args: events.append("fsync") or fsync(*args))
    monkeypatch.setattr(os, "replace", lambda *args: events.append(path.read_bytes()) or replace(*args))
    write_atomically(path, b"after")
    assert events[:2] == ["fsync", b"before"]
    assert path.read_bytes() == b"after"
