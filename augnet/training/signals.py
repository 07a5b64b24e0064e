"""Ctrl-C and the like, heeded after the step that is under way."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def heeded(numbers: Sequence[signal.Signals], stop: Callable[[], None]) -> Iterator[list[int]]:
    """Call `stop` at the first signal, and leave the second one to whoever listened before.

    Args:
        numbers: of the signals.
        stop: ends what is under way, soon.

    Yields:
        The signals that came so far.
    """
    received: list[int] = []

    def first(number: int, _: object) -> None:
        received.append(number)
        stop()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, first) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def unheeded() -> list[signal.Signals]:
    """Give Ctrl-C where nothing but Python itself listens to it, which only the main thread may change."""
    main = threading.current_thread() is threading.main_thread()
    return [signal.SIGINT] if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler else []
