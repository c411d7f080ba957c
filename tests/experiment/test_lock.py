import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from experiment.errors import UserError
from experiment.lock import any_of, exclusive, hold
from experiment.suite import ROOT


def test_a_lock_that_is_held_is_refused_and_free_again_when_its_file_is_closed(tmp_path):
    held = hold(tmp_path / "results" / ".lock")
    with pytest.raises(UserError, match="another process is at work on .*results"):
        hold(tmp_path / "results" / ".lock")
    held.close()
    hold(tmp_path / "results" / ".lock").close()


def test_a_process_that_is_killed_leaves_no_lock(tmp_path):
    code = "import os, pathlib, sys; from experiment import lock; f = lock.hold(pathlib.Path(sys.argv[1])); "
    code += "os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / ".lock")], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    hold(tmp_path / ".lock").close()


def test_a_turn_waits_for_the_one_before(tmp_path):
    with exclusive(tmp_path / ".lock"), open(tmp_path / ".lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(tmp_path / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_job_that_waits_for_its_turn_says_so_once(tmp_path, capsys):
    with open(tmp_path / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(1.5, lambda: fcntl.flock(other, fcntl.LOCK_UN)).start()
        with exclusive(tmp_path / ".lock"):
            pass
    assert capsys.readouterr().out == f"waiting for another process to finish its work on {tmp_path}\n"


def test_of_several_locks_the_first_that_is_free_is_held(tmp_path, capsys):
    paths = [tmp_path / name for name in "abc"]
    with any_of(paths, "one") as first, any_of(paths, "one") as second:
        assert (first, second) == (0, 1)
        with any_of(paths, "one") as third:
            assert third == 2
    with any_of(paths, "one") as first:
        assert first == 0
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    def read_only(path, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(UserError, match=r"results/tiny cannot be written to \(Read-only file system\)"):
        hold(tmp_path / "results" / "tiny" / ".lock")


@pytest.mark.fault("file")
@pytest.mark.parametrize("take", [hold, exclusive, lambda path: any_of([path], "one")], ids=["hold", "turn", "first"])
@pytest.mark.parametrize("there", [True, False])
def test_a_lock_that_is_a_link_is_refused_and_what_it_points_to_stays(tmp_path, take, there):
    precious = tmp_path / "thesis.tex"
    if there:
        precious.write_text("years of work")
    (tmp_path / ".lock").symlink_to(precious)
    with pytest.raises(UserError, match=r"\.lock is a symbolic link") as error, ExitStack() as stack:
        stack.enter_context(take(tmp_path / ".lock"))
    assert "\n" not in str(error.value)
    assert precious.exists() == there
    assert not there or precious.read_text() == "years of work"


@pytest.mark.fault("file")
def test_a_file_where_a_lock_belongs_keeps_what_it_holds(tmp_path):
    (tmp_path / ".lock").write_text("notes")
    os.link(tmp_path / ".lock", tmp_path / "notes")
    hold(tmp_path / ".lock").close()
    with exclusive(tmp_path / ".lock"):
        pass
    assert (tmp_path / "notes").read_text() == "notes"


@pytest.mark.fault("file")
def test_a_pipe_where_a_lock_belongs_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError):
        hold(tmp_path / ".lock")
