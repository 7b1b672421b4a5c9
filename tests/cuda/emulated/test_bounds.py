"""Bounds on the device that the host plays."""

from tests.cuda.test_bounds import *  # noqa: F403 - all of them
