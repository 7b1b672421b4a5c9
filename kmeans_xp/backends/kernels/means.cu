// New centroids: correctly rounded means of the exact sums. A cluster without weight keeps its centroid.
//
// For float32 centroids the float64 quotient is accepted when both ends of its error interval round alike; anything
// else is settled by exact comparisons (quotient.cuh).
//
//   WEIGHTED   FORCE_SLOW: tests only
extern "C" __global__ void __launch_bounds__(256)
    means(const i64* __restrict__ levels, int n_levels, const int* __restrict__ exponents,
          const int* __restrict__ counts, const i64* __restrict__ weight_levels, int n_weight_levels,
          int weight_exponent, int K, int D, double scale, Centre* __restrict__ C, Centre* __restrict__ ring,
          State* __restrict__ state) {
  if (state->skip) return;
  const i64 KD = (i64)K * D;
  Centre* copy = ring + (state->iteration & 3) * KD;  // what the host may ask for later
  double shift = 0;
  int moved = 0, empty = 0, slow = 0;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < KD; i += (i64)gridDim.x * blockDim.x) {
    const int k = (int)(i / D), d = (int)(i - (i64)k * D);
    const Centre before = C[i];
    Centre now = before;
    const i64 n = counts[k];
#if WEIGHTED
    Sum den = {weight_levels + k, K, n_weight_levels, weight_exponent};
    double total = n ? approximate(den) : 0;
#else
    Sum den = {&n, 0, 1, 0};
    double total = (double)n;
#endif
    if (total > 0) {
      Sum num = {levels + i, KD, n_levels, exponents[d]};
#if X_BITS != 64 && !defined(FORCE_SLOW) && !WEIGHTED
      double value = 0, magnitude = 0;
      for (int l = n_levels - 1; l >= 0; l--) {
        double t = (double)levels[(i64)l * KD + i] * power_of_two(-32 * l);
        value += t;
        magnitude += fabs(t);
      }
      double mean = value / total, error = magnitude / total * (16 * 1.1102230246251565e-16) + fabs(mean) * 4.5e-16;
      double unit = power_of_two(exponents[d]);
      float low = (float)((mean - error) * unit), high = (float)((mean + error) * unit);
      if (low == high) {
        now = low;
      } else {
        now = (Centre)rounded_quotient(num, den);
        slow++;
      }
#else
      now = (Centre)rounded_quotient(num, den);
      slow++;
#endif
      now += (Centre)0;  // -0 becomes +0
    } else {
      empty += d == 0;
    }
    copy[i] = now;
    if (now == before) continue;
    C[i] = now;
    moved++;
#if X_BITS == 64
    double t = now * scale - before * scale;
#else
    double t = (double)now - (double)before;
#endif
    shift += t * t;
  }
  shift = warp_sum(shift);
  moved = __reduce_add_sync(~0u, moved);
  empty = __reduce_add_sync(~0u, empty);
  slow = __reduce_add_sync(~0u, slow);
  if ((threadIdx.x & 31) == 0) {
    if (moved) atomicAdd(&state->n_moved, moved), atomicAdd(&state->shift, shift);
    if (empty) atomicAdd(&state->n_empty, empty);
    if (slow) atomicAdd(&state->n_slow_means, slow);
  }
}
