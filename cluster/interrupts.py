"""Ctrl-C and SIGTERM: a sweep says at once that it ends, saves itself, and can be resumed."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = "The sweep ends as soon as it is saved, which may take a minute; Ctrl-C once more ends it at once."


def take_sigterm_as_ctrl_c() -> None:
    """Raise KeyboardInterrupt on SIGTERM, too.

    To be called once Ray has started, since Ray's own handler prints the stack of each thread, and three
    seconds later ends the process with SIGABRT (Ray 2.60.0, ray#64830).
    """
    if threading.current_thread() is threading.main_thread():  # Python allows it there alone
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Give each signal the handler that it had before the block: a notebook's are not ours to change."""
    before = {sign: signal.getsignal(sign) for sign in signal.valid_signals()}
    try:
        yield
    finally:
        for sign, handler in before.items():
            if handler is not None and signal.getsignal(sign) is not handler:
                signal.signal(sign, handler)


@contextlib.contextmanager
def end_in_order(say: Callable[[str], object]) -> Iterator[None]:
    """Inside the block, the first Ctrl-C or SIGTERM has Tune save its state and end; tell `say` so.

    A second one raises KeyboardInterrupt, and so does one that comes before Tune can answer. Elsewhere than
    in the main thread, which gets the signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def answer(sign: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, handlers[signal.SIGUSR1]):
            raise KeyboardInterrupt
        asked = True
        # By another thread: the signal may have come while this one was printing.
        threading.Thread(target=say, args=(ENDING,), daemon=True).start()
        os.kill(os.getpid(), signal.SIGUSR1)  # Tune ends in order on this, and on its own SIGINT handler

    handlers = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, answer)
    try:
        yield
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
