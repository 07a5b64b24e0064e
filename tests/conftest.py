"""One thread for all tests: small images gain nothing from more, and processes that share cores lose."""

import signal

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Let SIGINT interrupt: a shell that starts the tests in the background has it ignored, by their processes too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
