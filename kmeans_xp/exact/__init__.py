"""Exact arithmetic on the host: error bounds, exact sums, correctly rounded results, exact signs.

Nothing here knows about devices or array libraries other than NumPy.
"""
