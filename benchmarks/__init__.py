"""Measurements: ``python -m benchmarks bits|memory|cpu|gpu``, from the root of the repository."""
