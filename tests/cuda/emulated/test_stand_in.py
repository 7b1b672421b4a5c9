"""The emulation itself: it must fail where the real thing fails, or its tests prove nothing."""

from __future__ import annotations

import gc
import inspect
import weakref

import numpy as np
import pytest

from kmeans_xp.backends.nvrtc import DeviceUnsupported, compile_source, load


def kernel(source, name="f", **defines):
    return load(source, tuple(defines.items()), "sm_90a").get_function(name)


ADD = """
extern "C" __global__ void __launch_bounds__(64) f(int* out, int n, float by) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(out + i, (int)by);
}"""


def test_numpy_cannot_read_the_device(cp):
    x = cp.asarray(np.ones(3))
    for conversion in (np.asarray, lambda a: np.ones(3) + a, lambda a: a + np.ones(3)):
        with pytest.raises(TypeError):
            conversion(x)
    with pytest.raises(TypeError):
        x[np.array([0, 1])]
    assert (x[cp.asarray(np.array([0, 2]))] * 2).get().tolist() == [2, 2]


def test_what_is_not_provided_is_refused(cp):
    with pytest.raises(AttributeError, match="stand-in"):
        getattr(cp, "einsum")  # noqa: B009 - only looked up
    with pytest.raises(TypeError, match="unexpected"):
        cp.sum(cp.zeros(3), where=True)
    with pytest.raises(ValueError, match="dtype"):
        cp.empty(3, object)


def test_fresh_memory_is_rubbish(cp):
    assert (cp.empty(9, cp.float32).get() < -1e30).all()


def test_work_waits_until_somebody_waits_for_it(cp):
    out, add = cp.zeros(100, cp.int32), kernel(ADD)
    with cp.cuda.Stream(non_blocking=True) as stream:
        add((2,), (64,), (out, np.int32(100), np.float32(2)))
        event = cp.cuda.Event()
        event.record(stream)
        add((2,), (64,), (out, np.int32(100), np.float32(3)))
    assert out.get().tolist() == [0] * 100  # another stream, which nobody told to wait
    event.synchronize()
    assert out.get().tolist() == [2] * 100
    stream.synchronize()
    assert out.get().tolist() == [5] * 100


def test_a_collection_does_not_change_the_order_of_work(cp):
    stream, order = cp.cuda.get_current_stream(), []

    class Waiter:
        """Garbage in a cycle, which waits for the stream when it goes."""

        def __init__(self):
            self.itself = self
            weakref.finalize(self, stream.synchronize)

    class Work:
        def __init__(self, number):
            self.number = number

        def run(self):
            Waiter()
            _ = [[] for _ in range(10 * gc.get_threshold()[0])]
            order.append(self.number)

    for number in range(3):
        stream._add(Work(number))
    stream.synchronize()
    assert order == [0, 1, 2]
    assert gc.isenabled()


def test_graphs_repeat_launches_and_keep_no_memory(cp):
    out, add = cp.zeros(8, cp.int32), kernel(ADD)
    other = cp.zeros(8, cp.int32)
    with cp.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        add((1,), (8,), (out, np.int32(8), np.float32(1)))
        with pytest.raises(RuntimeError, match="while capturing"):
            other.get()
        add((1,), (8,), (other, np.int32(8), np.float32(1)))
        graph = stream.end_capture()
        graph.launch(stream)
        graph.launch(stream)
        assert out.get().tolist() == [2] * 8
        gone = weakref.ref(other._memory)
        del other
        assert gone() is None
        with pytest.raises(RuntimeError, match="memory that is gone"):
            graph.launch(stream)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda out: (out, np.int64(4), np.float32(1)), "not of 4 bytes"),
        (lambda out: (out, np.float32(4), np.float32(1)), "not of kind i4"),
        (lambda out: (out, 4, np.float32(1)), "not of kind i4"),
        (lambda out: (out, np.int32(4)), "takes 3 arguments"),
        (lambda out: (out.get(), np.int32(4), np.float32(1)), "not of kind p8"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(cp, given, message):
    with pytest.raises(TypeError, match=message):
        kernel(ADD)((1,), (4,), given(cp.zeros(4, cp.int32)))


def test_launches_that_do_not_fit_are_refused(cp):
    arguments = (cp.zeros(4, cp.int32), np.int32(4), np.float32(1))
    for grid, block, shared in ((0, 4, 0), (1, 128, 0), (1, 2048, 0), (1, 4, 64 * 1024)):
        with pytest.raises(RuntimeError, match=r"INVALID_VALUE|launch_bounds"):
            kernel(ADD)((grid,), (block,), arguments, shared_mem=shared)


WRONG = """
extern "C" __global__ void f(int* out, int wrong) {
  extern __shared__ int memory[];
  int t = threadIdx.x;
  unsigned shared = (unsigned)__cvta_generic_to_shared(memory);
  if (wrong == 0) out[t + 1] = 1;
  if (wrong == 1 && t) __syncthreads();
  if (wrong == 2 && t & 1) out[t] = __shfl_sync(~0u, t, 0);
  if (wrong == 2 && !(t & 1)) __syncwarp();
  if (wrong == 3 && t > 40) return;
  if (wrong == 3) __syncwarp();
  if (wrong == 4)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared + 64), "l"(out));
  if (wrong == 5) out[0] = __shfl_sync(0xffffu, t, 0);
}"""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (0, "beyond the memory"),
        (1, "barrier|for ever"),
        (2, "different instructions"),
        (3, "ends while|not there"),
        (4, "out of bounds"),
        (5, "mask of some lanes"),
    ],
)
def test_kernels_that_go_wrong_say_how(cp, wrong, message):
    out = cp.zeros(64, cp.int32)
    kernel(WRONG)((1,), (64,), (out, np.int32(wrong)), shared_mem=64)
    with pytest.raises(RuntimeError, match=message):
        out.get()
    cp.cuda.memory.violations.clear()


def test_a_missing_barrier_shows_in_one_order_or_the_other(cp):
    source = """
    extern "C" __global__ void f(int* out) {
      __shared__ int seen[64];
      seen[threadIdx.x] = threadIdx.x;
      BARRIER;
      out[threadIdx.x] = seen[63 - threadIdx.x];
      BARRIER;
      seen[threadIdx.x] = -1;
    }"""
    right = {}
    for barrier in ("__syncthreads()", "0"):
        run, found = kernel(source.replace("BARRIER", barrier)), []
        for _ in range(2):
            out = cp.zeros(64, cp.int32)
            run((2,), (64,), (out,))
            found.append(out.get().tolist() == list(range(63, -1, -1)))
        right[barrier] = all(found)
    assert right == {"__syncthreads()": True, "0": False}


def test_copies_come_late_or_early(cp):
    """Without the wait the copy is not there in one of two launches."""
    source = """
    extern "C" __global__ void f(int* out) {
      extern __shared__ __align__(16) int memory[];
      memory[threadIdx.x] = -1;
      __syncthreads();
      unsigned to = (unsigned)__cvta_generic_to_shared(memory + threadIdx.x);
      if (threadIdx.x % 4 == 0)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
          ::"r"(to), "l"(out + threadIdx.x) : "memory");
      asm volatile("cp.async.commit_group;" ::: "memory");
      asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
      __syncthreads();
      out[threadIdx.x] = memory[threadIdx.x] + 1;
    }"""
    for left, right in ((0, [True, True]), (1, [False, True])):
        found = []
        for _ in range(2):
            out = cp.asarray(np.arange(64, dtype=np.int32))
            kernel(source, LEFT=left)((1,), (64,), (out,), shared_mem=256)
            found.append(out.get().tolist() == list(range(1, 65)))
        assert sorted(found) == right


def test_a_source_that_does_not_compile_says_why(cp):
    with pytest.raises(DeviceUnsupported, match="undefined"):
        compile_source('extern "C" __global__ void f() { undefined(); }', (), "sm_90a")
    with pytest.raises(DeviceUnsupported, match="sm_1"):
        compile_source('extern "C" __global__ void f() {}', (), "sm_1")


def test_a_real_cupy_is_never_shadowed(monkeypatch):
    from tests.cuda import emulated

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert "CuPy is installed" in emulated.why_not()


def test_the_stand_in_promises_no_more_than_cupy():
    """Names and arguments of the real one, where it is installed (ci/kernels.sh)."""
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    from tests.cuda.emulated import stand_in

    ours = stand_in()
    for name in dir(ours):
        if not name.startswith("_") and name not in ("annotations",):
            assert hasattr(cupy, name), name
    for name in ("Stream", "Event", "Graph", "Device"):
        for method in vars(getattr(ours.cuda, name)):
            assert method.startswith("_") or hasattr(getattr(cupy.cuda, name), method), method
    for method in vars(ours.ndarray):
        assert method.startswith("_") or hasattr(cupy.ndarray, method), method
    for name, arguments in ours._SIGNATURES.items():
        mine = inspect.signature(eval(f"lambda {arguments}: None")).parameters
        if (
            name not in ("broadcast_arrays", "broadcast_shapes", "meshgrid")
            and "/" not in arguments
        ):
            theirs = inspect.signature(getattr(cupy, name)).parameters
            assert list(mine) == [p for p in theirs if p in mine], name
