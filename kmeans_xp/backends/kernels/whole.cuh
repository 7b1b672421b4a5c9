// What the parts of whole.cu share: a problem as a block of threads sees it, and sums over the block.
//
//   WEIGHTED   LEVELS: integers that a sum has   IN_SHARED: the rows are in shared memory
typedef Centre Value;

struct Problem {
  int n, d, k;
  int width;       // sums of a cluster: its features, and its weight
  int stride;      // rows lie feature by feature, at this distance
  int places;      // so do centroids; those beyond k are infinite
  double* p;       // potentials; or lists of rows
  double* w;
  Value *x, *c;
  i64* sums;       // [LEVELS][k][width]
  int *labels, *counts, *cursor, *rows, *touched, *exponents;

  __device__ __forceinline__ Value at(int row, int j) const { return x[j * stride + row]; }
  __device__ __forceinline__ double weight(int row) const {
#if WEIGHTED
    return w[row];
#else
    return 1;
#endif
  }
  __device__ __forceinline__ bool weighs(int row) const {
#if WEIGHTED
    return w[row] != 0;
#else
    return true;
#endif
  }
};

constexpr int MOST_WARPS = 16, MOST_TRIALS = 16;

struct Scratch {
  double slots[MOST_WARPS], more[MOST_WARPS];
  i64 sums[MOST_WARPS];
  u64 costs[MOST_TRIALS];
  int chosen[MOST_TRIALS];
  int n_moved, empty, total, problem;
};

__device__ __forceinline__ int n_warps() { return blockDim.x >> 5; }

// f over the values of all threads, the same in each; the whole block calls it.
template <class T, class F>
__device__ __forceinline__ T reduced(T mine, T* slots, F f) {
  for (int o = 16; o; o >>= 1) mine = f(mine, __shfl_xor_sync(~0u, mine, o));
  __syncthreads();
  if ((threadIdx.x & 31) == 0) slots[threadIdx.x >> 5] = mine;
  __syncthreads();
  T all = slots[0];
  for (int i = 1; i < n_warps(); i++) all = f(all, slots[i]);
  return all;
}

__device__ __forceinline__ double block_sum(double v, Scratch& s) {
  return reduced(v, s.slots, [](double a, double b) { return a + b; });
}

__device__ __forceinline__ double block_max(double v, Scratch& s) {
  return reduced(v, s.slots, [](double a, double b) { return a > b ? a : b; });
}

__device__ __forceinline__ i64 block_min(i64 v, Scratch& s) {
  return reduced(v, s.sums, [](i64 a, i64 b) { return a < b ? a : b; });
}

// The sum over all threads before this one, and over all.
__device__ __forceinline__ i64 block_prefix(i64 mine, Scratch& s, i64& total) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  i64 running = mine;
  for (int o = 1; o < 32; o <<= 1) {
    const i64 v = __shfl_up_sync(~0u, running, o);
    if (lane >= o) running += v;
  }
  __syncthreads();
  if (lane == 31) s.sums[warp] = running;
  __syncthreads();
  i64 before = running - mine;
  total = 0;
  for (int i = 0; i < n_warps(); i++) {
    if (i < warp) before += s.sums[i];
    total += s.sums[i];
  }
  return before;
}

// e of v = f 2^e, 1/2 <= f < 1, for a normal v; 0 for 0
__device__ __forceinline__ int exponent_of(double v) {
  return v == 0 ? 0 : (int)(__double_as_longlong(v) >> 52 & 2047) - 1022;
}

// Means so small leave the range for which the bounds here are proven.
constexpr double SMALL = 6.223015277861142e-61;  // 2^-200
#if X_BITS == 64
constexpr double LARGE = 1.6069380442589903e60;  // 2^200
#else
constexpr double LARGE = 288230376151711744.0;   // 2^58: 2^9 squares do not overflow float32
#endif
