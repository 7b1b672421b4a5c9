// The last tiers, on the data as given: float64 distances with a proven bound, then exact signs.
//
// |x - c|^2 as a sum of D squared differences has a relative error of at most (D + 3) u, u = 2^-53, and an absolute one
// from underflow. float64 data are multiplied by a power of two first, so that the largest |x| is below 1.
#define UNIT 1.1102230246251565e-16
#define UNDERFLOW 1e-290

__device__ __forceinline__ double difference(const Element* x, const Centre* c, i64 d, double scale) {
#if X_BITS == 64
  return x[d] * scale - c[d] * scale;
#else
  return to_double(x[d]) - (double)c[d];
#endif
}

// |x - c|^2 by one warp
__device__ __forceinline__ double distance(const Element* __restrict__ x, const Centre* __restrict__ c, int D,
                                           double scale) {
  double sum = 0;
#pragma unroll 8
  for (int d = threadIdx.x & 31; d < D; d += 32) {
    double t = difference(x, c, d, scale);
    sum = fma(t, t, sum);
  }
  return warp_sum(sum);
}

// Is a nearer to x than b (1), b nearer than a (-1), or neither (0)? One warp.
__device__ __forceinline__ int compare(i64* limbs, const Element* x, const Centre* a, const Centre* b, int D,
                                       double scale, State* state) {
  double da = distance(x, a, D, scale), db = distance(x, b, D, scale);
  double error = (da + db) * (D + 8) * UNIT + UNDERFLOW;
  if (fabs(da - db) > error) return da < db ? 1 : -1;
  if ((threadIdx.x & 31) == 0) atomicAdd(&state->n_tied, 1);
  return nearer_sign(limbs, x, a, b, D);
}

// Two candidates left: a warp per pair.
extern "C" __global__ void __launch_bounds__(256)
    decide_pairs(const Element* __restrict__ X, const Centre* __restrict__ C, int D, double scale,
                 const int2* __restrict__ pairs, State* __restrict__ state, int* __restrict__ labels) {
  __shared__ i64 limbs[8][LIMBS];
  if (state->skip) return;
  int n = state->n_pair, lane = threadIdx.x & 31;
  for (int q = (blockIdx.x * blockDim.x + threadIdx.x) >> 5; q < n; q += (gridDim.x * blockDim.x) >> 5) {
    int row = pairs[q].x, b = pairs[q].y, a = labels[row];
    int sign = compare(limbs[threadIdx.x >> 5], X + (i64)row * D, C + (i64)a * D, C + (i64)b * D, D, scale, state);
    __syncwarp();
    if (lane == 0 && (sign < 0 || (sign == 0 && b < a))) labels[row] = b;
  }
}

// More than two: all centroids, a block per row. Each warp keeps the centroids that were within the bound of its best
// when it met them; a warp that meets more than KEPT of them has its row done again without a list.
constexpr int WARPS = 16, KEPT = 16;

extern "C" __global__ void __launch_bounds__(WARPS * 32)
    decide_rows(const Element* __restrict__ X, const Centre* __restrict__ C, int D, int K, double scale,
                const int* __restrict__ rows, State* __restrict__ state, int* __restrict__ labels) {
  __shared__ i64 limbs[LIMBS];
  __shared__ double best_of[WARPS], kept_distance[WARPS][KEPT];
  __shared__ int kept[WARPS][KEPT], n_kept[WARPS];
  if (state->skip) return;
  const int n = state->n_full, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const double slack = 1 + 2.01 * (D + 8) * UNIT;
  for (int q = blockIdx.x; q < n; q += gridDim.x) {
    const int row = rows[q];
    const Element* x = X + (i64)row * D;
    double best = __longlong_as_double(0x7ff0000000000000ll), threshold = best;
    int count = 0;
    for (int k = warp; k < K; k += WARPS) {
      double d = distance(x, C + (i64)k * D, D, scale);
      if (!(d <= threshold)) continue;
      if (d < best) {
        best = d;
        threshold = best * slack + UNDERFLOW;
        if (count <= KEPT) {  // drop those that are out by now
          int alive = 0;
          for (int i = 0; i < count; i++) {
            double v = kept_distance[warp][i];
            int index = kept[warp][i];
            __syncwarp();
            if (v <= threshold) {
              if (lane == 0) kept_distance[warp][alive] = v, kept[warp][alive] = index;
              alive++;
            }
            __syncwarp();
          }
          count = alive;
        }
      }
      if (count < KEPT && lane == 0) kept_distance[warp][count] = d, kept[warp][count] = k;
      count++;
      __syncwarp();
    }
    if (lane == 0) best_of[warp] = best, n_kept[warp] = count;
    __syncthreads();
    if (warp == 0) {
      best = best_of[0];
      bool overflow = false;
      for (int w = 0; w < WARPS; w++) {
        best = best_of[w] < best ? best_of[w] : best;
        overflow |= n_kept[w] > KEPT;
      }
      threshold = best * slack + UNDERFLOW;
      int winner = -1;
      auto challenge = [&](int k) {
        if (winner >= 0) {
          int sign = compare(limbs, x, C + (i64)winner * D, C + (i64)k * D, D, scale, state);
          __syncwarp();
          if (sign > 0 || (sign == 0 && winner < k)) return;
        }
        winner = k;
      };
      if (!overflow) {
        for (int w = 0; w < WARPS; w++)
          for (int i = 0; i < n_kept[w]; i++)
            if (kept_distance[w][i] <= threshold) challenge(kept[w][i]);
      } else {
        for (int k = 0; k < K; k++)
          if (distance(x, C + (i64)k * D, D, scale) <= threshold) challenge(k);
      }
      if (lane == 0) labels[row] = winner;
    }
    __syncthreads();
  }
}
