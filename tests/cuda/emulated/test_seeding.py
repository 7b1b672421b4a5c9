"""The tests of seeding and relocation on small data."""

from __future__ import annotations

import pytest

from tests.cuda import test_seeding as real

DATA = {
    name: (X[-300:], None if w is None else w[-300:])
    for name, (X, w) in real.data().items()
    if name not in ("weights", "float64", "offset")
}


@pytest.fixture
def small(cp, monkeypatch):
    monkeypatch.setattr(real, "data", lambda: DATA)
    return cp


@pytest.mark.parametrize("name", DATA)
def test_potentials(small, name):
    real.test_potentials(small, name)


@pytest.mark.parametrize("name", DATA)
def test_many_centres_at_a_time(small, name):
    real.test_many_centres_at_a_time(small, name)


def test_centres_off_the_grid_of_a_block(cp):
    real.test_centres_off_the_grid_of_a_block(cp)


@pytest.mark.parametrize("name", DATA)
def test_farthest_rows(small, name):
    real.test_farthest_rows(small, name)


def test_a_part_counts_what_the_whole_array_counts(cp):
    real.test_a_part_counts_what_the_whole_array_counts(cp, 1e60)


def test_all_potentials_zero(cp):
    real.test_all_potentials_zero(cp)
