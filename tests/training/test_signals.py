"""fnn.training.signals: the first signal is noted, the second ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fnn.training.signals import SIGNALS, Stop

HANG = """
import sys, time
from fnn.training.signals import Stop
with Stop() as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
    print("noted", stop.number, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_noted_and_after_it_all_is_as_before(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with Stop() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        assert stop.number == number
        assert [signal.getsignal(each) for each in SIGNALS] == [signal.SIG_DFL] * 2
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert stop(), "it is noted still"


def test_without_a_signal_all_is_as_before():
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(KeyError), Stop():
        raise KeyError
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("first, second", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_the_second_ends_the_process_at_once(first, second):
    command = [sys.executable, "-c", HANG]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(first)
            assert process.stdout.readline() == f"noted {first:d}\n"
            process.send_signal(second)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == -second
    assert said == ""
