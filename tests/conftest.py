from collections import Counter

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the tensors of the tests are small, and the machine is often shared

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")

# The kinds of fault that public bug reports describe; `@pytest.mark.fault(kind)` names what a test is for.
FAULTS = {
    "restart": "an interrupted, failed, killed or partly deleted suite is not finished by the same command",
    "copy": "results that were copied, touched or moved are lost, or made again",
    "stale": "what made a number changes, and the number stays",
    "weak": "a run that is not robust, or an attack that fails, is reported as a result",
    "clock": "seconds that were taken on a busy machine are compared",
    "version": "another version of PyTorch, or another thread count, changes the numbers in silence",
    "data": "other data than the publisher's are trained or attacked",
    "place": "it runs only in some folders, from some folders, or from some shells",
    "input": "bad input ends in a traceback, after the work, or in an exit status of 0",
    "file": "a damaged, foreign or hostile file ends in a traceback, or harms other files",
}


def pytest_collection_modifyitems(items):
    for item in items:
        for marker in item.iter_markers("fault"):
            if set(marker.args) - set(FAULTS):
                raise pytest.UsageError(f"{item.nodeid}: the kinds of fault are {', '.join(FAULTS)}")
        if item.get_closest_marker("needs_gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    report.faults = sorted({kind for marker in item.iter_markers("fault") for kind in marker.args})
    return report


def pytest_terminal_summary(terminalreporter):
    passed = Counter(kind for report in terminalreporter.getreports("passed") for kind in report.faults)
    failed = Counter(kind for report in terminalreporter.getreports("failed") for kind in report.faults)
    if passed or failed:
        terminalreporter.section("kinds of fault that would be seen")
        for kind, fault in FAULTS.items():
            count = f"{passed[kind]} tests passed" + (f", {failed[kind]} failed" if failed[kind] else "")
            terminalreporter.line(f"{kind:8} {count:>16}: {fault}")
