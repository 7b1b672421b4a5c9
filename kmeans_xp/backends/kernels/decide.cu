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

// More than two candidates: all centroids. A row is cut into slices of centroids, a block each, when there are fewer rows
// than blocks. A warp keeps the centroids that were within the bound of its best when it met them; the last slice of a
// row to be done compares what is left.
constexpr int WARPS = 8, KEPT = 8;

struct Slice {
  double best, distance[KEPT];
  int n_kept, index[KEPT];  // n_kept > KEPT: too many ties, all centroids are compared again
};

// The best of some slices, by exact comparisons, ascending.
__device__ __noinline__ int settle(const Slice* slices, int n, const Element* x, const Centre* C, int D, int K,
                                   double scale, double slack, i64* limbs, State* state) {
  double best = __longlong_as_double(0x7ff0000000000000ll);
  bool overflow = false;
  for (int i = 0; i < n; i++) {
    double b = __ldcg(&slices[i].best);
    best = b < best ? b : best;
    overflow |= __ldcg(&slices[i].n_kept) > KEPT;
  }
  const double threshold = best * slack + UNDERFLOW;
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
    for (int i = 0; i < n; i++)
      for (int j = 0; j < __ldcg(&slices[i].n_kept); j++)
        if (__ldcg(&slices[i].distance[j]) <= threshold) challenge(__ldcg(&slices[i].index[j]));
  } else {
    for (int k = 0; k < K; k++)
      if (distance(x, C + (i64)k * D, D, scale) <= threshold) challenge(k);
  }
  return winner;
}

// scratch: WARPS slices per block; tickets: zeroed ints, one per block. `moved` is given where no later kernel compares
// the labels with the previous ones.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
    decide_rows(const Element* __restrict__ X, const Centre* __restrict__ C, int D, int K, double scale,
                const int* __restrict__ rows, Slice* __restrict__ scratch, int* __restrict__ tickets,
                int2* __restrict__ moved, State* __restrict__ state, int* __restrict__ labels) {
  __shared__ i64 limbs[LIMBS];
  __shared__ bool last;
  if (state->skip) return;
  const int n = state->n_full, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (n == 0) return;
  const int slices = max(1, min((int)gridDim.x / n, (K + 4 * WARPS - 1) / (4 * WARPS)));
  const double slack = 1 + 2.01 * (D + 8) * UNIT;
  for (int task = blockIdx.x; task < n * slices; task += gridDim.x) {
    const int row = rows[task / slices], slice = task % slices;
    const Element* x = X + (i64)row * D;
    // with several slices a block has one task at most, so that a task has a place of its own
    Slice* place = scratch + (i64)(slices > 1 ? task : blockIdx.x) * WARPS;
    Slice& mine = place[warp];
    double best = __longlong_as_double(0x7ff0000000000000ll), threshold = best;
    int count = 0;
    for (int k = slice * WARPS + warp; k < K; k += slices * WARPS) {
      double d = distance(x, C + (i64)k * D, D, scale);
      if (!(d <= threshold)) continue;
      if (d < best) {
        best = d;
        threshold = best * slack + UNDERFLOW;
        if (count <= KEPT) {  // drop those that are out by now
          int alive = 0;
          for (int i = 0; i < count; i++) {
            double v = mine.distance[i];
            int index = mine.index[i];
            __syncwarp();
            if (v <= threshold) {
              if (lane == 0) mine.distance[alive] = v, mine.index[alive] = index;
              alive++;
            }
            __syncwarp();
          }
          count = alive;
        }
      }
      if (count < KEPT && lane == 0) mine.distance[count] = d, mine.index[count] = k;
      count = min(count + 1, KEPT + 1);
      __syncwarp();
    }
    if (lane == 0) mine.best = best, mine.n_kept = count;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = slices == 1 || atomicAdd(tickets + task / slices, 1) == slices - 1;
    __syncthreads();
    if (last && warp == 0) {
      __threadfence();
      const Slice* all = slices > 1 ? scratch + (i64)(task - slice) * WARPS : place;
      int winner = settle(all, slices * WARPS, x, C, D, K, scale, slack, limbs, state);
      if (lane == 0) {
        if (slices > 1) tickets[task / slices] = 0;
        int before = labels[row];
        labels[row] = winner;
        if (moved && before != winner) moved[atomicAdd(&state->n_changed, 1)] = make_int2(row, before);
      }
    }
    __syncthreads();
  }
}
