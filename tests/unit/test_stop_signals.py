"""Signals to a process: the first waits or raises, the second ends it."""

import os
import signal

import pytest
from killed import status_of

from dreambooth_pl.start import tells_mistakes
from dreambooth_pl.stop_signals import Stopped, StopSignals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_raises_and_the_command_returns_its_status(signum, capsys) -> None:
    @tells_mistakes
    def main() -> int:
        with StopSignals().handled():
            try:
                os.kill(os.getpid(), signum)
            except Stopped as stopped:
                stopped.advice = "To go on: again"
                raise
        return 0

    assert main() == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[signum.name]
    assert capsys.readouterr().err == f"Stopped by {signum.name}. To go on: again\n"


def test_a_deferred_signal_waits_and_a_second_one_ends_the_process() -> None:
    stop = StopSignals()
    before = signal.getsignal(signal.SIGTERM)
    with stop.handled():
        stop.defer()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.pending == signal.SIGTERM
        with pytest.raises(Stopped), stop.interruptible():
            pytest.fail("it has waited long enough")
        assert status_of(lambda: _second(stop)) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def _second(stop: StopSignals) -> None:
    stop._pid = os.getpid()  # the fork stands for the process itself
    os.kill(os.getpid(), signal.SIGINT)


def test_a_handler_put_in_front_is_put_aside() -> None:
    """Lightning registers its own when training starts."""
    stop = StopSignals()
    with stop.handled():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with pytest.raises(Stopped), stop.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals().handled():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_data_loaders_worker_answers_for_itself() -> None:
    stop = StopSignals()
    with stop.handled():
        stop.defer()
        assert status_of(lambda: os.kill(os.getpid(), signal.SIGINT)) == 0, "the terminal's Ctrl-C"
        assert status_of(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
        assert stop.pending is None
