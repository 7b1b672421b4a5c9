// Exact sums over whole columns, in the levels of sums.cu: x or x^2, with or without weights.
//
//   POWER 1 or 2      WEIGHTED
constexpr int HELD = 6;  // levels kept in registers

// Threads are a multiple of the number of columns, so that a thread stays in one column.
extern "C" __global__ void __launch_bounds__(256)
    column_sums(const Element* __restrict__ X, const double* __restrict__ weights, i64 n, int D, i64 n_threads,
                const double* __restrict__ scale, const double* __restrict__ scale2, double weight_scale,
                double weight_scale2, i64* __restrict__ levels, int n_levels) {
  i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n_threads) return;
  const int column = (int)(i % D);
  const double first = scale[column], second = scale2[column];
  i64 held[HELD] = {};
  auto add = [&](double v) {
    v *= 16777216.0;  // 2^24
#pragma unroll
    for (int l = 0; l < HELD; l++) {
      double q = rint(v);
      held[l] += (i64)q;
      v = (v - q) * 4294967296.0;
    }
    for (int l = HELD; l < n_levels && v != 0; l++) {
      double q = rint(v);
      v = (v - q) * 4294967296.0;
      if (q != 0) atomicAdd((u64*)(levels + (i64)l * D + column), (u64)(i64)q);
    }
  };
  auto add_product = [&](double a, double b) {
    double product = __dmul_rn(a, b), rest = __fma_rn(a, b, -product);
    add(product);
    if (rest != 0) add(rest);
  };
  for (; i < n; i += n_threads) {
    double v = to_double(X[i]) * first * second;
#if WEIGHTED
    double w = weights[i / D] * weight_scale * weight_scale2;
#endif
#if POWER == 1 && WEIGHTED
    add_product(w, v);
#elif POWER == 1
    add(v);
#elif WEIGHTED
    double square = __dmul_rn(v, v), rest = __fma_rn(v, v, -square);
    add_product(w, square);
    if (rest != 0) add_product(w, rest);
#else
    add_product(v, v);
#endif
  }
#pragma unroll
  for (int l = 0; l < HELD; l++)
    if (held[l] && l < n_levels) atomicAdd((u64*)(levels + (i64)l * D + column), (u64)held[l]);
}
