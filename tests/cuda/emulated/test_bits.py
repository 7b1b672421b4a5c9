"""The hashes of every library, from the kernels themselves as the host runs them."""

from __future__ import annotations

import json

import pytest

from kmeans_xp import single
from kmeans_xp.blocks.device_tiny import device_solver
from kmeans_xp.result import fingerprint
from tests.helpers import environment, run
from tests.make_hashes import FILE, SMALL

EXPECTED = json.loads(FILE.read_text())
# The kernels of this data are run elsewhere too; here most rows would need exact signs.
LONG = ("tiny 1500x3 float64", "huge 1500x3 float64", "digits", "uniform 1500x3 float64, r")
CASES = [case for case in SMALL if not case.name.startswith(LONG)][::4]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_on_the_device(cp, case):
    X = cp.asarray(case.data())
    result = run(X, sample_weight=case.sample_weight(), **case.options())
    assert isinstance(result.labels, cp.ndarray)
    assert isinstance(result.centroids, cp.ndarray)
    assert fingerprint(result) == EXPECTED[case.name]


@pytest.mark.parametrize("case", CASES[1::3], ids=lambda case: case.name)
def test_whole_by_one_block(cp, monkeypatch, case):
    monkeypatch.setattr(single, "device_solver", device_solver)
    result = run(cp.asarray(case.data()), sample_weight=case.sample_weight(), **case.options())
    assert fingerprint(result) == EXPECTED[case.name]


@pytest.mark.parametrize("case", SMALL[::9], ids=lambda case: case.name)
def test_by_the_functions_of_cupy(cp, case):
    with environment(backend="generic"):
        result = run(cp.asarray(case.data()), sample_weight=case.sample_weight(), **case.options())
    assert isinstance(result.labels, cp.ndarray)
    assert fingerprint(result) == EXPECTED[case.name]
