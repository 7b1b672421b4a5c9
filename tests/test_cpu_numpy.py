"""The fast pass in NumPy: what it certifies is right, in every tile shape, and ties stay open."""

import numpy as np
import pytest

from kmeans_xp.backends.cpu_numpy import nearest
from kmeans_xp.backends.records import Frame, Tile

# strips and their rests, few centroids of many features, scores by rows
SHAPES = [(2, 2), (10, 3), (40, 5), (64, 16), (256, 8), (300, 8), (200, 40), (9, 200)]


def problem(k, d, dtype):
    rng = np.random.default_rng(k * d)
    x = rng.standard_normal((1500, d)).astype(dtype)
    centers = rng.standard_normal((k, d)).astype(np.float32)
    frame = Frame(0.5, rng.standard_normal(d).astype(np.float32))
    bias = (-0.5 * np.square(centers).sum(axis=1)).astype(np.float32)
    return x, frame, Tile(centers, bias)


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_certified_rows_are_right(k, d, dtype, tight):
    x, frame, tile = problem(k, d, dtype)
    x[7] = np.nan
    norms = np.full(1493, 1.0, dtype=np.float32)
    norms[::9] = 3.0
    bound = (0.0, 1e-3, 2.0)
    best, score, lead, certified = nearest(x, slice(4, 1497), norms, frame, tile, bound, tight)
    framed = x[4:1497].astype(np.float64) * 0.5 - frame.center
    scores = framed @ tile.centers.T.astype(np.float64) + tile.bias
    ordered = np.sort(scores, axis=1)
    true_lead = ordered[:, -1] - ordered[:, -2]
    assert not certified[::9].any()  # beyond the limit
    assert not certified[3]  # not a number
    sure = (norms < 2) & (true_lead > 2e-3)
    assert certified[sure].all()
    assert (true_lead[certified] > 0.9e-3).all()
    assert (best[certified] == scores[certified].argmax(axis=1)).all()
    np.testing.assert_allclose(score[certified], ordered[certified, -1], rtol=1e-4, atol=1e-3)
    assert (lead[certified] <= true_lead[certified] + 2e-4).all()
    if tight:
        np.testing.assert_allclose(lead[certified], true_lead[certified], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize(("k", "d"), SHAPES)
def test_equal_scores_are_never_certified(k, d, tight):
    x, frame, tile = problem(k, d, "float32")
    twins = Tile(np.repeat(tile.centers[:1], k, axis=0), np.repeat(tile.bias[:1], k))
    rows = np.arange(3, 1500, 2)
    norms = np.ones(len(rows), dtype=np.float32)
    assert not nearest(x, rows, norms, frame, twins, (0.0, 1e-3, 2.0), tight)[3].any()


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("k", "d"), [(40, 5), (300, 8), (300, 140), (40, 140), (9, 140)])
def test_guesses_and_folded_centres_are_safe(k, d, dtype, tight):
    rng = np.random.default_rng(k + d)
    x = (rng.standard_normal((1200, d)) + 0.5).astype(dtype)
    frame = Frame(1.0, np.full(d, 0.5, dtype=np.float32))
    centers = 3 * rng.standard_normal((k, d)).astype(np.float32)
    tile = Tile(centers, (-0.5 * np.square(centers).sum(axis=1)).astype(np.float32))
    framed = x.astype(np.float64) - 0.5
    scores = framed @ centers.T.astype(np.float64) + tile.bias
    norms = (np.linalg.norm(framed, axis=1) * 1.001).astype(np.float32)
    slope, offset = 0.05, 1e-3
    guess = scores.argmax(axis=1).astype(np.int32)
    guess[::7] = rng.integers(0, k, len(guess[::7]))
    ordered = np.sort(scores, axis=1)
    true_lead = ordered[:, -1] - ordered[:, -2]
    margin = slope * norms + offset
    for rows in (slice(0, 1200), np.arange(1200)):
        found = nearest(x, rows, norms, frame, tile, (slope, offset, 1e18), tight, guess)
        best, score, lead, certified = found
        assert certified[true_lead > margin + 1e-2].all()
        assert not certified[true_lead < margin - 1e-2].any()
        assert (best[certified] == scores[certified].argmax(axis=1)).all()
        # what bounds count on: neither best nor second best is off by more than half the margin
        assert (score <= ordered[:, -1] + 0.5 * margin)[certified].all()
        assert (score - lead + 0.5 * margin >= ordered[:, -2])[certified].all()
        assert (lead >= margin - 1e-2)[certified].all()
        shift = slope * np.linalg.norm(frame.center) if d > 128 else 0.0
        sure = true_lead > margin + 2 * shift + 1e-2
        assert (score <= ordered[:, -1] - shift + 1e-2)[sure].all()
        assert (lead <= true_lead - 2 * shift + 1e-2)[sure].all()


def test_folding_is_given_up_where_the_centre_is_far():
    x, frame, tile = problem(300, 140, "float32")
    far = Frame(1.0, frame.center + np.float32(1e4))
    x += far.center
    norms = (np.linalg.norm(x.astype(np.float64) - far.center, axis=1) * 1.001).astype(np.float32)
    bound = (1e-3, 1e-3, 1e18)
    certified = nearest(x, slice(0, 1500), norms, far, tile, bound, True)[3]
    assert certified.mean() > 0.9


def test_what_a_call_answers_does_not_depend_on_calls_before():
    x, _, tile = problem(300, 140, "float32")
    view = Frame(1.0, np.full(140, 0.5, dtype=np.float32))
    x[:700] = tile.centers[np.arange(700) % 300] + view.center  # certain in any view, the rest not
    norms = (np.linalg.norm(x.astype(np.float64) - 0.5, axis=1) * 1.001).astype(np.float32)
    rows = slice(0, 700), slice(700, 1500)

    def answers(order, tile):
        found = {}
        for i in order:
            found[i] = nearest(x, rows[i], norms[rows[i]], view, tile, (0.5, 0.1, 1e18), True)
        return [found[i] for i in (0, 1)]

    forth = answers((0, 1), tile)
    back = answers((1, 0), Tile(tile.centers, tile.bias))
    assert forth[0][3].mean() > 0.95 > 0.5 > forth[1][3].mean()
    for one, other in zip(forth, back, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
