"""What ends a job is one sentence, whoever or whatever ended it."""

import signal
import subprocess
import sys
import threading

import pytest

from experiment.errors import reported
from experiment.suite import ROOT

JOB = """
import signal, sys, time
from experiment.errors import reported
{before}
with reported("digits/pgd-7/seed0"):
    try:
        print("begun", flush=True)
        time.sleep(60)
    except Exception:
        print("taken for an error")
    finally:
        print("tidied up", flush=True)
"""


def stopped(number, before=""):
    """Exit status, output and errors of a job that gets the signal `number` in its middle."""
    command = [sys.executable, "-c", JOB.format(before=before)]
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "begun\n"
    job.send_signal(number)
    out, errors = job.communicate(timeout=30)
    return job.returncode, out, errors


@pytest.mark.fault("restart")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_job_that_is_interrupted_tidies_up_and_says_in_one_sentence_that_the_same_command_goes_on(number, status):
    sentence = "error: digits/pgd-7/seed0: interrupted; the same command goes on\n"
    assert stopped(number) == (status, "tidied up\n", sentence)


def test_a_signal_that_whoever_started_the_job_has_ignored_stays_ignored():
    ignoring = "signal.signal(signal.SIGTERM, signal.SIG_IGN); sleep = time.sleep; time.sleep = lambda _: sleep(1)"
    assert stopped(signal.SIGTERM, ignoring) == (0, "tidied up\n", "")


def test_signals_mean_afterwards_what_they_meant_before_and_other_threads_leave_them_alone():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def work():
        with reported("job"):
            pass

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
