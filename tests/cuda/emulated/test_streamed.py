"""The tests of streams on the device, by the kernels as the host runs them."""

from tests.cuda.test_streamed import *  # noqa: F403 - all of them
