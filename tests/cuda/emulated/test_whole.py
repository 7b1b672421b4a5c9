"""The tests of whole fits, by the kernel as the host runs it."""

from tests.cuda.test_whole import *  # noqa: F403 - all of them
