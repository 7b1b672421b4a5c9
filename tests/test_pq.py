"""Product quantisation on top of a batch."""

from __future__ import annotations

import numpy as np
import pytest

from kmeans_xp import kmeans, predict
from kmeans_xp.pq import ProductQuantizer
from kmeans_xp.seeding import Words


def data(n=600, d=8, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((n, d)).astype(dtype)


def test_codes_are_nearest_codewords_of_every_part():
    x = data()
    quantizer = ProductQuantizer(4, n_clusters=16, random_state=3).fit(x)
    codes = quantizer.encode(x)
    assert codes.dtype == np.uint8 and quantizer.codebooks_.shape == (4, 16, 2)
    for m in range(4):
        assert np.array_equal(
            codes[:, m], predict(x[:, 2 * m : 2 * m + 2], quantizer.codebooks_[m])
        )
    error = np.square(quantizer.decode(codes).astype(float) - x).sum(axis=1).mean()
    assert error == pytest.approx(quantizer.reconstruction_error_, rel=1e-6)


def test_codebooks_are_single_fits():
    x = data()
    quantizer = ProductQuantizer(2, n_clusters=5, random_state=3).fit(x)
    seeds = np.random.SeedSequence(Words(3).word()).spawn(2)
    for m, seed in enumerate(seeds):
        part = np.ascontiguousarray(x[:, 4 * m : 4 * m + 4])
        expected = kmeans(part, 5, init="random", n_init=1, max_iter=25, random_state=seed)
        assert quantizer.codebooks_[m].tobytes() == expected.centroids.tobytes()


def test_training_sample_is_bounded():
    x = data(5000, 4)
    quantizer = ProductQuantizer(2, n_clusters=8, random_state=0).fit(x)
    every = ProductQuantizer(2, n_clusters=8, random_state=0, max_rows=None).fit(x)
    assert quantizer.codebooks_.tobytes() != every.codebooks_.tobytes()
    again = ProductQuantizer(2, n_clusters=8, random_state=0, max_rows=2048).fit(x)
    assert quantizer.codebooks_.tobytes() == again.codebooks_.tobytes()


def test_lossless_where_codewords_suffice():
    x = np.round(data(50, 6))
    x[:, :3] = x[:1, :3]
    quantizer = ProductQuantizer(6, n_clusters=len(np.unique(x)), init="k-means++", random_state=0)
    with pytest.warns(UserWarning, match="problems"):
        quantizer.fit(x)
    assert np.array_equal(quantizer.decode(quantizer.encode(x)), x)
    assert quantizer.reconstruction_error_ == 0


def test_more_than_256_codewords():
    x = data(400, 2)
    quantizer = ProductQuantizer(1, n_clusters=300, random_state=0).fit(x)
    codes = quantizer.encode(x)
    assert codes.dtype == np.int32 and codes.max() > 255


def test_libraries(library):
    x = data(200)
    given = library.asarray(x)
    expected = ProductQuantizer(4, n_clusters=7, random_state=1, max_rows=100).fit(x)
    quantizer = ProductQuantizer(4, n_clusters=7, random_state=1, max_rows=100).fit(given)
    codes = quantizer.encode(given)
    assert library.owns(codes)
    assert np.array_equal(library.numpy(codes), expected.encode(x))
    decoded = library.numpy(quantizer.decode(codes))
    assert decoded.tobytes() == expected.decode(expected.encode(x)).tobytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(n_subvectors=3), "must divide the number of features, got 3 for 8"),
        (dict(n_subvectors=0), "n_subvectors must be >= 1"),
        (dict(n_subvectors=2, n_clusters=700), "n_clusters"),
        (dict(n_subvectors=2, init="kmeans"), "init must be"),
        (dict(n_subvectors=2, max_rows="all"), "max_rows must be 'auto'"),
        (dict(n_subvectors=2, n_clusters=9, max_rows=8), "max_rows must be >= 9"),
    ],
)
def test_errors(options, words):
    with pytest.raises(ValueError, match=words):
        ProductQuantizer(**options).fit(data())


def test_values_that_are_not_finite_are_named_by_row_and_column():
    x = data()
    quantizer = ProductQuantizer(4, n_clusters=8, random_state=0)
    with pytest.raises(TypeError, match="init must be"):
        ProductQuantizer(4, init=x[:8]).fit(x)
    quantizer.fit(x)
    x[77, 5] = np.nan
    with pytest.raises(ValueError, match="row 77 has nan in column 5"):
        quantizer.fit(x)
    with pytest.raises(ValueError, match="row 77 has nan in column 5"):
        quantizer.encode(x)
    x[:] = np.inf
    with pytest.raises(ValueError, match=r"row \d+ has inf in column 0"):
        ProductQuantizer(4, n_clusters=8, max_rows=16, random_state=0).fit(x)


def test_a_generator_is_drawn_from_once_nothing_is_refused():
    x, rng = data(), np.random.default_rng(3)
    before = rng.bit_generator.state
    with pytest.raises(ValueError, match="max_iter"):
        ProductQuantizer(4, n_clusters=8, max_iter=0, random_state=rng).fit(x)
    x[0, 0] = np.nan
    with pytest.raises(ValueError, match="row 0 has nan"):
        ProductQuantizer(4, n_clusters=8, random_state=rng).fit(x)
    assert rng.bit_generator.state == before
    ProductQuantizer(4, n_clusters=8, random_state=rng).fit(data())
    again = np.random.default_rng(3)
    again.integers(0, 1 << 64, dtype=np.uint64)
    assert rng.bit_generator.state == again.bit_generator.state


def test_parameters_as_scikit_learn_has_them():
    base = pytest.importorskip("sklearn.base")
    quantizer = ProductQuantizer(2, n_clusters=4, random_state=0)
    again = base.clone(quantizer)
    assert again is not quantizer and again.get_params() == quantizer.get_params()
    assert again.set_params(n_clusters=5).n_clusters == 5
    with pytest.raises(ValueError, match="clusters is no parameter; they are n_subvectors"):
        quantizer.set_params(clusters=3)


def test_repr_can_be_evaluated():
    text = repr(ProductQuantizer(2, n_clusters=4, random_state=0))
    assert repr(eval(text)) == text


def test_errors_of_codes():
    quantizer = ProductQuantizer(2, n_clusters=4, random_state=0)
    with pytest.raises(ValueError, match="call fit first"):
        quantizer.encode(data())
    quantizer.fit(data())
    with pytest.raises(ValueError, match="8 features, got 4"):
        quantizer.encode(data(5, 4))
    with pytest.raises(ValueError, match="between 0 and 3"):
        quantizer.decode(np.array([[0, 4]]))
    with pytest.raises(ValueError, match=r"shape \(N, 2\)"):
        quantizer.decode(np.array([[0, 1, 2]]))
    with pytest.raises(TypeError, match="codes must be an array of integers, got one of float64"):
        quantizer.decode(np.array([[0.0, 1.0]]))
