"""Signals to a program that does not hear its own requests."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("third", [signal.SIGHUP, None])
def test_nobody_waits_for_what_does_not_hear(third: signal.Signals | None) -> None:
    """The third signal leaves at once; so does the second after a while."""
    program = (
        "import signal, time; from ferrylog import signals\n"
        f"signals.HURRY_S = {3600 if third else 0.1}\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also in a test run under nohup\n"
        "with signals.Signals(lambda asked: print(asked.why, asked.immediate, flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(1)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        for number, immediate in ((signal.SIGINT, False), (signal.SIGTERM, True)):
            child.send_signal(number)
            assert child.stdout.readline() == f"{number.name} {immediate}\n"
        if third is not None:
            child.send_signal(third)
    assert child.returncode == 128 + (third or signal.SIGTERM)
