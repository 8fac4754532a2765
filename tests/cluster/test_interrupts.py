"""Ctrl-C and SIGTERM: the first is answered at once and ends Tune in order, the second ends all."""

import os
import signal
import threading

import pytest

from cluster.interrupts import ENDING, end_in_order, take_sigterm_as_ctrl_c
from tests.fixtures.waits import PATIENCE

SIGNS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers():
    """The test runner's own handlers come back."""
    before = {sign: signal.getsignal(sign) for sign in (*SIGNS, signal.SIGUSR1)}
    yield before
    for sign, handler in before.items():
        signal.signal(sign, handler)


@pytest.fixture
def said():
    """What was told, and an event for when it was."""
    words, told = [], threading.Event()

    def say(sentence):
        words.append(sentence)
        told.set()

    say.words, say.told = words, told
    return say


@pytest.mark.parametrize("sign", SIGNS)
def test_the_first_is_told_and_asks_tune_to_end(said, sign):
    asked = []
    with end_in_order(said):
        signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))  # as tune.run does at its start
        os.kill(os.getpid(), sign)
        assert said.told.wait(PATIENCE)
        assert (said.words, asked) == ([ENDING], [True])
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), sign)
    assert (said.words, asked) == ([ENDING], [True])


def test_one_that_comes_before_tune_can_answer_ends_at_once(said):
    with pytest.raises(KeyboardInterrupt), end_in_order(said):
        os.kill(os.getpid(), signal.SIGINT)
    assert said.words == []


def test_the_handlers_come_back(said, handlers):
    with end_in_order(said):
        signal.signal(signal.SIGUSR1, lambda *_: None)
    assert {sign: signal.getsignal(sign) for sign in handlers} == handlers


def test_sigterm_is_as_ctrl_c():
    take_sigterm_as_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_tune_still_ends_in_order_on_sigusr1():
    """Tune's signal handling, as `tune.run` sets it up: what `end_in_order` counts on."""
    from ray.tune.tune import _setup_signal_catching

    interrupted = _setup_signal_catching()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert interrupted.is_set()
