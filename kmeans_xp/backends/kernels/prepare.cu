// Once per array: statistics of the columns, and the scaled half-precision copy of the rows.
//
// A row is copied as x*scale - centre (one rounding in float64; scale is a power of two). `centre` is near the middle
// of the data, so that the copy keeps the bits that tell rows apart.

// Per column: the largest |x|, and the exponent of the lowest bit set in any element (the grid of the column).
// Threads are a multiple of the number of columns, so that a thread stays in one column.
extern "C" __global__ void column_stats(const Element* __restrict__ X, i64 n, int D, i64 n_threads,
                                        u64* largest, int* lowest_bit) {
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n_threads) return;
  int column = i % D, lowest = 4096;
  u64 top = 0;
  for (; i < n; i += n_threads) {
    u64 bits = (u64)__double_as_longlong(to_double(X[i])) & 0x7fffffffffffffffull;
    if (!bits) continue;
    int e = (int)(bits >> 52);
    u64 mantissa = (bits & 0xfffffffffffffull) | (e ? 1ull << 52 : 0);
    top = bits > top ? bits : top;
    int bit = (e ? e : 1) - 1075 + __ffsll((i64)mantissa) - 1;
    lowest = bit < lowest ? bit : lowest;
  }
  atomicMax(largest + column, top);
  atomicMin(lowest_bit + column, lowest);
}

// The same two numbers over one array of weights.
extern "C" __global__ void weight_stats(const double* __restrict__ w, i64 n, u64* largest, int* lowest_bit) {
  u64 top = 0;
  int lowest = 4096;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (i64)gridDim.x * blockDim.x) {
    u64 bits = (u64)__double_as_longlong(w[i]) & 0x7fffffffffffffffull;
    if (!bits) continue;
    int e = (int)(bits >> 52);
    u64 mantissa = (bits & 0xfffffffffffffull) | (e ? 1ull << 52 : 0);
    top = bits > top ? bits : top;
    int bit = (e ? e : 1) - 1075 + __ffsll((i64)mantissa) - 1;
    lowest = bit < lowest ? bit : lowest;
  }
  atomicMax(largest, top);
  atomicMin(lowest_bit, lowest);
}

// The largest norm of a scaled row (float bits, infinity where it overflows). A warp per row.
extern "C" __global__ void largest_norm(const Element* __restrict__ X, const double* __restrict__ centre,
                                        int N, int D, double scale, u32* out) {
  int lane = threadIdx.x & 31;
  double largest = 0;
  for (int r = (blockIdx.x * blockDim.x + threadIdx.x) >> 5; r < N; r += (gridDim.x * blockDim.x) >> 5) {
    double sum = 0;
    for (int d = lane; d < D; d += 32) {
      double t = to_double(X[(i64)r * D + d]) * scale - centre[d];
      sum += t * t;
    }
    sum = warp_sum(sum);
    largest = sum > largest ? sum : largest;
  }
  if (lane == 0) atomicMax(out, __float_as_uint(norm_above(sqrt(largest))));
}

// hi = half(t), lo = half(t - hi) and (|t|, |t - hi|) rounded upwards. A row longer than `limit` would not fit the
// scores' range: it gets an infinite norm, so that nothing certifies it before the float64 tier.
extern "C" __global__ void split_rows(const Element* __restrict__ X, const double* __restrict__ centre, int N,
                                      int D, int Dp, double scale, double limit, u16* __restrict__ hi,
                                      u16* __restrict__ lo, float2* __restrict__ norms) {
  int lane = threadIdx.x & 31;
  for (int r = (blockIdx.x * blockDim.x + threadIdx.x) >> 5; r < N; r += (gridDim.x * blockDim.x) >> 5) {
    double sum = 0, error = 0;
    i64 at = (i64)r * Dp;
    for (int d = lane; d < Dp; d += 32) {
      double t = d < D ? to_double(X[(i64)r * D + d]) * scale - centre[d] : 0.0;
      u16 h = float_to_half((float)t);
      double rest = t - half_to_float(h);
      sum += t * t;
      error += rest * rest;
      hi[at + d] = h;
      lo[at + d] = float_to_half((float)rest);
    }
    sum = sqrt(warp_sum(sum));
    error = sqrt(warp_sum(error));
    bool fits = sum <= limit;  // false for NaN as well
    if (!fits)
      for (int d = lane; d < Dp; d += 32) hi[at + d] = lo[at + d] = 0;
    float infinite = __uint_as_float(0x7f800000u);
    if (lane == 0) norms[r] = fits ? make_float2(norm_above(sum), norm_above(error)) : make_float2(infinite, infinite);
  }
}
