"""Product quantisation: vectors as short codes, one k-means a sub-space, all of them one batch."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from kmeans_xp.backends.convert import namespace_name, take_rows, to_numpy
from kmeans_xp.functional import kmeans
from kmeans_xp.prediction import predict
from kmeans_xp.seeding import sample_rows, words_kept
from kmeans_xp.validation import as_array, check_count, check_init_name, check_n_clusters

__all__ = ["ProductQuantizer"]

# Rows a cluster that training looks at; more change the codebooks little.
_ROWS_A_CLUSTER = 256
_PARAMETERS = ("n_subvectors", "n_clusters", "init", "max_iter", "max_rows", "random_state")


class ProductQuantizer:
    """Codes of `n_subvectors` numbers for vectors, by a k-means of its own in every sub-space.

    Parameters
    ----------
    n_subvectors : int
        Equal parts M that a vector of D features is cut into; M divides D.
    n_clusters : int, default 256
        Codewords K a part. Codes are uint8 for up to 256 of them, int32 for more (not every library
        has uint16).
    init : {"random", "k-means++", "k-means||"}, default "random"
        Where the centroids start.
    max_iter : int, default 25
        Largest number of iterations of a sub-space.
    max_rows : int, None or "auto", default "auto"
        Rows that `fit` looks at, drawn without replacement; "auto" is 256 a codeword, None all.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed of the sample and the starts.

    Attributes
    ----------
    codebooks_ : array, shape (M, K, D / M)
        Codewords, in the namespace and on the device of X.
    n_features_in_ : int
        D.
    reconstruction_error_ : float
        Mean squared distance of the rows that `fit` looked at to what their codes stand for.

    References
    ----------
    H. Jégou, M. Douze, C. Schmid, "Product quantization for nearest neighbor search", IEEE Trans.
    PAMI 33 (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.pq import ProductQuantizer
    >>> x = np.random.default_rng(0).standard_normal((1000, 8))
    >>> quantizer = ProductQuantizer(4, n_clusters=16, random_state=0).fit(x)
    >>> codes = quantizer.encode(x)
    >>> codes.shape, codes.dtype.name, quantizer.decode(codes).shape
    ((1000, 4), 'uint8', (1000, 8))
    """

    def __init__(
        self,
        n_subvectors: int,
        n_clusters: int = 256,
        *,
        init: str = "random",
        max_iter: int = 25,
        max_rows: int | str | None = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_subvectors = n_subvectors
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.max_rows = max_rows
        self.random_state = random_state

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"ProductQuantizer({given})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name, as scikit-learn's estimators do.

        Parameters
        ----------
        deep : bool
            Ignored: no parameter has parameters.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters, for the next `fit`.

        Parameters
        ----------
        **parameters
            By name.

        Returns
        -------
        ProductQuantizer
            Itself.

        Raises
        ------
        ValueError
            For a name that is no parameter.
        """
        for name, value in parameters.items():
            if name not in _PARAMETERS:
                raise ValueError(f"{name} is no parameter; they are {', '.join(_PARAMETERS)}")
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the codebooks from the rows of X.

        Parameters
        ----------
        X : array, shape (N, D)
            Any array `kmeans` takes, N >= n_clusters.
        y : None
            Ignored.

        Returns
        -------
        ProductQuantizer
            Itself.

        Raises
        ------
        TypeError, ValueError
            For bad input, naming the argument.
        """
        x = as_array(X)
        n_rows, n_features = int(x.shape[0]), int(x.shape[1])
        parts = check_count(self.n_subvectors, "n_subvectors")
        if n_features % parts:
            raise ValueError(
                f"n_subvectors must divide the number of features, got {parts} for {n_features}"
            )
        clusters = check_n_clusters(self.n_clusters, n_rows)
        if not isinstance(self.init, str):
            raise TypeError(
                f"init must be 'random', 'k-means++' or 'k-means||', got {type(self.init).__name__}"
            )
        check_init_name(self.init)
        limit, rows = self._limit(clusters, n_rows), None
        with words_kept(self.random_state) as words:
            if limit < n_rows:
                rows = sample_rows(n_rows, limit, words)
                x = take_rows(x, rows)
            _check_finite(x, rows)
            result = kmeans(
                _split(x, parts),
                clusters,
                init=self.init,
                n_init=1,
                max_iter=self.max_iter,
                random_state=words.word(),
            )
        self.codebooks_ = result.centroids
        self.n_features_in_ = n_features
        self.reconstruction_error_ = float(result.inertia.sum()) / int(x.shape[0])
        return self

    def encode(self, X: Any) -> Any:
        """Return the codes of the rows of X.

        Parameters
        ----------
        X : array, shape (N, D)
            In the namespace of the codebooks.

        Returns
        -------
        array of uint8 (int32 for more than 256 codewords), shape (N, M)
            For each part the index of its nearest codeword; ties go to the lowest.

        Raises
        ------
        TypeError, ValueError
            For bad input, naming the argument.
        """
        codebooks = self._fitted()
        x = as_array(X)
        if int(x.shape[1]) != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} features, got {x.shape[1]}")
        _check_finite(x, None)
        labels = predict(_split(x, int(codebooks.shape[0])), codebooks)
        xp = array_namespace(labels)
        small = int(codebooks.shape[1]) <= 256
        return xp.astype(xp.permute_dims(labels, (1, 0)), xp.uint8 if small else xp.int32)

    def decode(self, codes: Any) -> Any:
        """Return the vectors that codes stand for.

        Parameters
        ----------
        codes : array of int, shape (N, M)
            As `encode` gives them, in the namespace of the codebooks.

        Returns
        -------
        array, shape (N, D)
            In the dtype of the codebooks.

        Raises
        ------
        TypeError, ValueError
            For codes of another shape, type or range.
        """
        codebooks = self._fitted()
        values = to_numpy(codes) if is_array_api_obj(codes) else None
        parts, clusters = int(codebooks.shape[0]), int(codebooks.shape[1])
        if values is None or values.dtype.kind not in "iu":
            got = type(codes).__name__ if values is None else f"one of {values.dtype}"
            raise TypeError(f"codes must be an array of integers, got {got}")
        if values.ndim != 2 or values.shape[1] != parts:
            raise ValueError(f"codes must have shape (N, {parts}), got {values.shape}")
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < clusters:
            raise ValueError(f"codes must be between 0 and {clusters - 1}")
        if namespace_name(codes) != namespace_name(codebooks):
            raise TypeError(
                f"codes are in the namespace {namespace_name(codes)} but the codebooks in "
                f"{namespace_name(codebooks)}"
            )
        xp = array_namespace(codebooks)
        index = xp.astype(codes, xp.int32)
        columns = [xp.take(codebooks[m, ...], index[:, m], axis=0) for m in range(parts)]
        return xp.concat(columns, axis=1)

    def _limit(self, clusters: int, n_rows: int) -> int:
        if self.max_rows is None:
            return n_rows
        if isinstance(self.max_rows, str):
            if self.max_rows != "auto":
                raise ValueError(
                    f"max_rows must be 'auto', None or an integer, got {self.max_rows!r}"
                )
            return min(n_rows, _ROWS_A_CLUSTER * clusters)
        return min(n_rows, check_count(self.max_rows, "max_rows", clusters))

    def _fitted(self) -> Any:
        if not hasattr(self, "codebooks_"):
            raise ValueError("this ProductQuantizer is not fitted yet: call fit first")
        return self.codebooks_


def _check_finite(x: Any, rows: Any) -> None:
    """Refuse NaN and infinity, by their place in the rows that the caller gave."""
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating") or bool(xp.all(xp.isfinite(x))):
        return
    values = to_numpy(x)
    row, column = np.argwhere(~np.isfinite(values))[0]
    place = row if rows is None else rows[row]
    raise ValueError(
        f"X must hold numbers that are finite; row {place} has {values[row, column]} in column "
        f"{column} (the first such value that was looked at)"
    )


def _split(x: Any, parts: int) -> Any:
    """View rows as one problem a part: (M, N, D / M)."""
    xp = array_namespace(x)
    cut = xp.reshape(x, (int(x.shape[0]), parts, -1))
    return xp.permute_dims(cut, (1, 0, 2))
