"""The tests of Dask chunks on the device, by the kernels as the host runs them."""

from tests.cuda.test_dask_chunks import *  # noqa: F403 - all of them
