"""Vector instructions that compilers do not find by themselves; this module needs numba.

x86 multiplies pairs of 16-bit integers and adds them up in 32 bits twice as fast as it multiplies
float32, and without rounding. The functions here are written for one width of vectors, that of the
machine at hand; kernels call them with addresses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = ["CENTERS", "LANES", "ROWS", "address", "available", "best_two", "turn"]


@functools.cache
def _features() -> frozenset[str]:
    """Return what numba compiles for: not always all that the machine has."""
    if numba.config.DISABLE_JIT:
        return frozenset()
    flags = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return frozenset(flag[1:] for flag in flags if flag.startswith("+"))


def available() -> bool:
    """Whether this machine has the instructions (AVX2, or AVX-512 with 16-bit integers)."""
    return bool(_features() & {"avx2", "avx512bw"})


_WIDE = "avx512bw" in _features()
#: 32-bit integers a vector
LANES = 16 if _WIDE else 8
#: rows a panel: two vectors side by side
ROWS = 2 * LANES
#: centroids a block: with two vectors of rows their sums fill the registers
CENTERS = 12 if _WIDE else 5

_INT16, _INT32, _INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_INT32, LANES)
_PAIRS = ir.VectorType(_INT16, 2 * LANES)
_MULTIPLY_ADD = "llvm.x86.avx512.pmaddw.d.512" if _WIDE else "llvm.x86.avx2.pmadd.wd"
_POINTER = types.CPointer(types.int32)


def _index(value: int) -> ir.Constant:
    return ir.Constant(_INT64, value)


def _place(builder: ir.IRBuilder, base: Any, at: Any) -> Any:
    return builder.gep(base, [at], source_etype=_INT32)


def _load(builder: ir.IRBuilder, base: Any, at: Any) -> Any:
    place = builder.bitcast(_place(builder, base, at), _VECTOR.as_pointer())
    return builder.load(place, typ=_VECTOR, align=4)


def _store(builder: ir.IRBuilder, value: Any, base: Any, at: Any) -> None:
    place = builder.bitcast(_place(builder, base, at), _VECTOR.as_pointer())
    builder.store(value, place, align=4)


def _splat(builder: ir.IRBuilder, value: Any) -> Any:
    none = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, none, ir.Constant(_VECTOR, [0] * LANES))


def _load_splat(builder: ir.IRBuilder, base: Any, at: Any) -> Any:
    return _splat(builder, builder.load(_place(builder, base, at), typ=_INT32, align=4))


def _loop(
    builder: ir.IRBuilder,
    count: Any,
    carried: Sequence[Any],
    body: Callable[[Any, list[Any]], list[Any]],
) -> list[Any]:
    """Do `body(i, carried)` for i below `count`, at least once; what is carried in the end."""
    before = builder.block
    inside, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(inside)
    builder.position_at_end(inside)
    i = builder.phi(_INT64)
    i.add_incoming(_index(0), before)
    held = [builder.phi(value.type) for value in carried]
    for phi, value in zip(held, carried, strict=True):
        phi.add_incoming(value, before)
    new = body(i, list(held))
    following = builder.add(i, _index(1))
    i.add_incoming(following, builder.block)
    for phi, value in zip(held, new, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    builder.position_at_end(after)
    return new


def _keep(builder: ir.IRBuilder, score: Any, index: Any, state: Sequence[Any]) -> list[Any]:
    """Take one more score of every row into the best two."""
    best, second, which = state
    better = builder.icmp_signed(">", score, best)
    lower = builder.select(better, best, score)
    second = builder.select(builder.icmp_signed(">", lower, second), lower, second)
    return [
        builder.select(better, score, best),
        second,
        builder.select(better, index, which),
    ]


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def address(context: Any, array: Any) -> Any:
    """Where the values of an array of int32 are."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), code


def _adding_pairs(
    builder: ir.IRBuilder, panel: Any, centers: Any
) -> Callable[[Any, list[Any]], list[Any]]:
    """Body of the loop over pairs: their products, added to the sums of a block of centroids.

    It carries where the pairs of the centroids are, and the sums: per centroid those of the first
    and of the second half of the panel.
    """
    module, kind = builder.module, ir.FunctionType(_VECTOR, [_PAIRS, _PAIRS])
    multiply = module.globals.get(_MULTIPLY_ADD) or ir.Function(module, kind, _MULTIPLY_ADD)

    def add_pair(p: Any, carried: list[Any]) -> list[Any]:
        at, *sums = carried
        start = builder.mul(p, _index(ROWS))
        rows = [
            builder.bitcast(_load(builder, panel, builder.add(start, _index(h))), _PAIRS)
            for h in (0, LANES)
        ]
        new = [builder.add(at, _index(CENTERS))]
        for j in range(CENTERS):
            center = _load_splat(builder, centers, builder.add(at, _index(j)))
            center = builder.bitcast(center, _PAIRS)
            for h in range(2):
                product = builder.call(multiply, [rows[h], center])
                new.append(builder.add(sums[2 * j + h], product))
        return new

    return add_pair


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def best_two(
    context: Any, panel: Any, pairs: Any, centers: Any, blocks: Any, bias: Any, state: Any
) -> Any:
    """Scores x·c + bias of a panel of rows with blocks of centroids, and the two best of each row.

    A panel holds pairs of 16-bit values of `ROWS` rows, pair after pair; a block the same of
    `CENTERS` centroids. Nothing may overflow 32 bits in the end. `state` holds the best scores, the
    second best, and the indices of the best: the lowest that has it.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        panel, pairs, centers, blocks, bias, state = arguments
        add_pair = _adding_pairs(builder, panel, centers)

        def score_block(b: Any, carried: list[Any]) -> list[Any]:
            first = builder.mul(b, _index(CENTERS))
            sums = [
                _load_splat(builder, bias, builder.add(first, _index(j)))
                for j in range(CENTERS)
                for _ in range(2)
            ]
            at, *scores = _loop(builder, pairs, [carried[0], *sums], add_pair)
            label = builder.trunc(first, _INT32)
            for h in range(2):
                places = [_index(q * ROWS + h * LANES) for q in range(3)]
                held = [_load(builder, state, place) for place in places]
                for j in range(CENTERS):
                    index = _splat(builder, builder.add(label, ir.Constant(_INT32, j)))
                    held = _keep(builder, scores[2 * j + h], index, held)
                for value, place in zip(held, places, strict=True):
                    _store(builder, value, state, place)
            return [at]

        _loop(builder, blocks, [_index(0)], score_block)
        return context.get_dummy_value()

    return types.void(_POINTER, types.int64, _POINTER, types.int64, _POINTER, _POINTER), code


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def turn(context: Any, rows: Any, length: Any, chunks: Any, panel: Any) -> Any:
    """Turn `ROWS` rows of pairs into a panel, `LANES` pairs a chunk; rows are `length` pairs apart,
    and what follows them is read too.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, length, chunks, panel = arguments

        def turn_chunk(c: Any, carried: list[Any]) -> list[Any]:
            column = builder.mul(c, _index(LANES))
            for half in (0, LANES):
                square = []
                for r in range(LANES):
                    start = builder.mul(length, _index(half + r))
                    square.append(_load(builder, rows, builder.add(start, column)))
                for p, vector in enumerate(_transposed(builder, square)):
                    pair = builder.mul(builder.add(column, _index(p)), _index(ROWS))
                    _store(builder, vector, panel, builder.add(pair, _index(half)))
            return []

        _loop(builder, chunks, [], turn_chunk)
        return context.get_dummy_value()

    return types.void(_POINTER, types.int64, types.int64, _POINTER), code


def _transposed(builder: ir.IRBuilder, square: list[Any]) -> list[Any]:
    """Swap blocks of one, two, four... lanes between vectors as far apart."""
    mask = ir.VectorType(_INT32, LANES)
    step = 1
    while step < LANES:
        for i in range(LANES):
            if i & step:
                continue
            a, b = square[i], square[i + step]
            low = [n if not n & step else LANES + n - step for n in range(LANES)]
            high = [n + step if not n & step else LANES + n for n in range(LANES)]
            square[i] = builder.shuffle_vector(a, b, ir.Constant(mask, low))
            square[i + step] = builder.shuffle_vector(a, b, ir.Constant(mask, high))
        step *= 2
    return square
