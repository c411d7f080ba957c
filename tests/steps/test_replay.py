"""The command that replays logged magnitudes: `python -m steps.replay RULE ... FILE`."""

import subprocess
import sys

import pytest
from test_steps import COLLAPSE, PUBLISHED, PUBLISHED_STEPS, runs_of

from experiment.suite import ROOT
from steps import replay

PARAMETERS = ["--first", "1", "--most", "8", "--gamma", "1.01", "--step-size", "10/255", "--eps", "8/255"]


def file_of(tmp_path, text):
    path = tmp_path / "magnitudes.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("rule", ["mplus", "mplus-2021"])
def test_the_command_prints_the_steps_of_each_epoch(rule, tmp_path):
    file = file_of(tmp_path, "\n".join(map(str, PUBLISHED)))
    command = [sys.executable, "-m", "steps.replay", rule, *PARAMETERS, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert runs_of(map(int, done.stdout.split("\n")[:-1])) == PUBLISHED_STEPS
    assert done.stderr == ""


def test_the_command_takes_lengths_in_units_of_eps_and_blank_lines(tmp_path, capsys):
    file = file_of(tmp_path, "\n".join(map(str, PUBLISHED)).replace("\n", "\n\n") + "\n\n")
    replay.main(["mplus-2021", *[p if p != "10/255" else "1.25 eps" for p in PARAMETERS], str(file)])
    assert runs_of(map(int, capsys.readouterr().out.split())) == PUBLISHED_STEPS


def test_the_command_forces_growth_on_a_host(tmp_path, capsys):
    file = file_of(tmp_path, "0\n" * 8)
    host = ["--first", "0", "--most", "7", "--gamma", "1.01", "--step-size", "2/255", "--eps", "8/255"]
    replay.main(["mplus-2021", *host, "--host", str(file)])
    assert capsys.readouterr().out.split() == ["0", "1", "1", "2", "3", "4", "4", "4"]
    replay.main(["mplus-2021", *host, str(file)])
    assert capsys.readouterr().out.split() == ["0"] + ["1"] * 7


def test_the_command_guards_growth_when_asked_to(tmp_path, capsys):
    file = file_of(tmp_path, "\n".join(map(str, COLLAPSE)))
    replay.main(["mplus", *PARAMETERS, "--guard", str(file)])
    assert capsys.readouterr().out.split() == ["1", "2", "2", "2", "2", "3"]
    replay.main(["mplus", *PARAMETERS, str(file)])
    assert capsys.readouterr().out.split() == ["1", "2", "2", "2", "3", "3"]


def failure(arguments):
    """What the command says before it leaves with an error, which must be one line."""
    with pytest.raises(SystemExit) as stopped:
        replay.main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, str)  # Python prints it and exits with 1
    assert "\n" not in stopped.value.code
    return stopped.value.code


@pytest.mark.parametrize("line", ["-1", "nan", "inf", "many", "1 2"])
def test_the_command_names_the_line_that_is_no_magnitude(tmp_path, line):
    message = failure(["mplus", *PARAMETERS, file_of(tmp_path, f"1.0\n\n{line}\n")])
    assert "magnitudes.txt, line 3" in message
    assert repr(line) in message


def test_the_command_names_a_file_that_cannot_be_read(tmp_path):
    assert "absent.txt" in failure(["mplus", *PARAMETERS, tmp_path / "absent.txt"])
    assert str(tmp_path) in failure(["mplus", *PARAMETERS, tmp_path])


def test_the_command_names_a_file_that_is_no_text(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"\x80\x02\xff\xfe")
    assert "weights.pt" in failure(["mplus", *PARAMETERS, file])


def test_the_command_names_the_option_that_is_no_number(tmp_path):
    wrong = [p if p != "10/255" else "ten" for p in PARAMETERS]
    assert "--step-size is 'ten'" in failure(["mplus", *wrong, file_of(tmp_path, "1.0\n")])


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--first", "9", "mplus has first 9, above most, 8"),
        ("--first", "-1", "--first is -1"),
        ("--gamma", "0", "--gamma is '0'"),
        ("--step-size", "0/255", "--step-size is '0/255'"),
        ("--eps", "8", "--eps is 8"),
    ],
)
def test_the_command_names_the_option_that_makes_no_sense(tmp_path, option, value, says):
    wrong = [value if before == option else p for before, p in zip([None, *PARAMETERS], PARAMETERS, strict=False)]
    assert says in failure(["mplus", *wrong, file_of(tmp_path, "1.0\n")])


def test_a_mistake_exits_with_1_and_prints_no_traceback(tmp_path):
    command = [sys.executable, "-m", "steps.replay", "mplus", *PARAMETERS, str(file_of(tmp_path, "-3\n"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
