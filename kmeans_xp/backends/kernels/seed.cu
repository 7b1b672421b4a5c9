// Certified potentials of k-means++ and relocation: p = rn12(w |x - c|^2), 12 significant bits, ties to even.
//
// A potential is computed in float64 with an error bound; it counts when both ends of its interval round alike, else the
// row goes to a list that the host settles with rational numbers. Rows and centres are multiplied by `scale` = 2^-E so
// that |x| < 1; weights by 2^-top likewise. Squared distances below `flush` count as zero.
//
//   LANES  threads that share a row      CANDIDATES  centres tried in one pass
#define UNIT 1.1102230246251565e-16
#define TINY 1e-300

__device__ __forceinline__ double round12(double v) {
  u64 b = (u64)__double_as_longlong(v);
  b += (1ull << 40) - 1 + ((b >> 41) & 1);
  return __longlong_as_double((i64)(b & ~((1ull << 41) - 1)));
}

// The potential of a squared distance, or -1 if it cannot be told. `relative` is 0 when the distance is exact.
__device__ __forceinline__ double potential(double squared, double weight, bool weighted, double relative, double flush) {
  double error = squared * relative + (relative > 0 ? TINY : 0.0);
  if (weight == 0 || squared == 0 || squared + error < flush) return 0;
  if (squared - error < flush) return -1;
  double low = squared - error, high = squared + error;
  if (weighted) {
    double product = __dmul_rn(weight, squared);
    if (product < 1e-280) return -1;
    bool exact = error == 0 && __fma_rn(weight, squared, -product) == 0;
    low = exact ? product : weight * low * (1 - 4 * UNIT);
    high = exact ? product : weight * high * (1 + 4 * UNIT);
  }
  double p = round12(low);
  return p == round12(high) ? p : -1;
}

__device__ __forceinline__ double group_sum(double v) {
#pragma unroll
  for (int o = LANES / 2; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
  return v;
}

__device__ __forceinline__ float group_sum(float v) {
#pragma unroll
  for (int o = LANES / 2; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
  return v;
}

__device__ __forceinline__ double square_distance(const Element* x, const double* c, int D, double scale, int lane) {
  double sum = 0;
  for (int d = lane; d < D; d += LANES) {
    double t = to_double(x[d]) * scale - c[d];
    sum = fma(t, t, sum);
  }
  return group_sum(sum);
}

// Potentials of every row against CANDIDATES scaled centres, at most `n`. With `costs` it adds floor(min(p, p_j) 2^s) up for each
// candidate; without, n is 1 and p becomes min(p, p_0) (and `largest` its maximum).
//
// A float32 distance comes first: most rows are nearer to a chosen centre than to the candidate, and that it proves.
extern "C" __global__ void __launch_bounds__(256)
    try_centres(const Element* __restrict__ X, const double* __restrict__ weights, double weight_scale,
                double weight_scale2, int N, int D, double scale, const double* __restrict__ centres,
                const float* __restrict__ centres32, int n, double relative, double flush, double* __restrict__ p,
                double power, u64* __restrict__ costs, u64* __restrict__ largest, int2* __restrict__ open, int capacity,
                int* __restrict__ n_open) {
  __shared__ u64 total[CANDIDATES];
  if (threadIdx.x < CANDIDATES) total[threadIdx.x] = 0;
  __syncthreads();
  const int lane = threadIdx.x % LANES, groups = gridDim.x * blockDim.x / LANES;
  const float scale32 = (float)scale, shrink = 1.f - (D + 16) * 1.2e-7f;
  u64 mine[CANDIDATES] = {};
  double top = 0;
  const int first = (blockIdx.x * blockDim.x + threadIdx.x) / LANES;
  const int rounds = (N + groups - 1) / groups;  // the same for every thread: the groups of a warp stay together
  for (int round = 0; round < rounds; round++) {
    i64 row = (i64)round * groups + first;
    const bool inside = row < N;
    if (!inside) row = N - 1;
    const Element* x = X + row * D;
    float squared[CANDIDATES] = {};
    for (int base = 0; base < D; base += 4 * LANES) {
      float v[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int d = base + i * LANES + lane;
#if X_BITS == 64
        v[i] = d < D ? (float)(x[d] * scale) : 0.f;
#elif X_BITS == 16
        v[i] = d < D ? half_to_float(x[d]) * scale32 : 0.f;
#else
        v[i] = d < D ? x[d] * scale32 : 0.f;
#endif
      }
#pragma unroll
      for (int j = 0; j < CANDIDATES; j++) {
        if (j >= n) break;
#pragma unroll
        for (int i = 0; i < 4; i++) {
          int d = base + i * LANES + lane;
          float t = d < D ? v[i] - centres32[(i64)j * D + d] : 0.f;
          squared[j] = fmaf(t, t, squared[j]);
        }
      }
    }
    const bool weighted = weights != nullptr;
    const double weight = weighted ? weights[row] * weight_scale * weight_scale2 : 1.0;
    const double now = p[row];
#pragma unroll
    for (int j = 0; j < CANDIDATES; j++) {
      if (j >= n) break;
      // rounding to float32 of x and c costs up to 2^-23 (|x| + |c|) a difference for float64 data: see `slack`
      float bound = group_sum(squared[j]) * shrink;
#if X_BITS == 64
      float slack = 1.3e-7f * sqrtf((float)D);
      bound = fmaxf(0.f, sqrtf(bound) - 2.f * slack);
      bound = bound * bound * 0.999999f;
#endif
      double least = now;
      bool near = !((double)(bound - 1e-30f) * weight * (1 - 2.5e-4) >= now);
      if (__any_sync(~0u, near && inside)) {
        double exact = square_distance(x, centres + (i64)j * D, D, scale, lane);
        double value = potential(exact, weight, weighted, relative, flush);
        if (near) {
          // rn12 of the lower end decides whether an uncertain value matters at all
          bool matters = value < 0 && !(weight * (exact * (1 - relative) - TINY) * (1 - 4 * UNIT) > now);
          if (matters && inside && lane == 0) {
            int place = atomicAdd(n_open, 1);
            if (place < capacity) open[place] = make_int2((int)row, j);
          }
          if (value >= 0 && value < now) least = value;
          if (matters && costs) least = 0;  // the host adds this row's share
        }
      }
      if (lane == 0 && inside) {
        if (costs)
          mine[j] += (u64)(least * power);
        else
          p[row] = least;
        top = least > top ? least : top;
      }
    }
  }
  if (costs) {
#pragma unroll
    for (int j = 0; j < CANDIDATES; j++)
      if (mine[j]) atomicAdd(total + j, mine[j]);
    __syncthreads();
    if (threadIdx.x < n && total[threadIdx.x]) atomicAdd(costs + threadIdx.x, total[threadIdx.x]);
  } else if (top > 0) {
    atomicMax(largest, (u64)__double_as_longlong(top));
  }
}

// totals[b] = sum of floor(p 2^s) over 1024 rows
extern "C" __global__ void __launch_bounds__(256)
    block_totals(const double* __restrict__ p, int N, double power, u64* __restrict__ totals) {
  __shared__ u64 total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  u64 mine = 0;
  for (int i = threadIdx.x; i < 1024; i += 256) {
    i64 row = (i64)blockIdx.x * 1024 + i;
    if (row < N) mine += (u64)(p[row] * power);
  }
  if (mine) atomicAdd(&total, mine);
  __syncthreads();
  if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

__device__ __forceinline__ double own_square(const Element* x, const Centre* c, int D, double scale, int lane) {
  double sum = 0;
#pragma unroll 4
  for (int d = lane; d < D; d += LANES) {
    double t = to_double(x[d]) * scale - (double)c[d] * scale;
    sum = fma(t, t, sum);
  }
  return group_sum(sum);
}

// p becomes min(p, rn12(w |x - c_label|^2)), and `largest` its maximum: the nearest of many new centres has been found.
extern "C" __global__ void __launch_bounds__(256)
    lower_potentials(const Element* __restrict__ X, const double* __restrict__ weights, double weight_scale,
                     double weight_scale2, int N, int D, double scale, const Centre* __restrict__ C,
                     const int* __restrict__ labels, double relative, double flush, double* __restrict__ p,
                     u64* __restrict__ largest, int2* __restrict__ open, int capacity, int* __restrict__ n_open) {
  const int lane = threadIdx.x % LANES, groups = gridDim.x * blockDim.x / LANES;
  const int first = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, rounds = (N + groups - 1) / groups;
  double top = 0;
  for (int round = 0; round < rounds; round++) {
    i64 row = (i64)round * groups + first;
    const bool inside = row < N;
    if (!inside) row = N - 1;
    const int label = labels[row];
    const double squared = own_square(X + row * D, C + (i64)label * D, D, scale, lane);
    if (lane != 0 || !inside) continue;
    const double weight = weights ? weights[row] * weight_scale * weight_scale2 : 1.0;
    const double value = potential(squared, weight, weights != nullptr, relative, flush);
    double now = p[row];
    // rn12 of the lower end decides whether an uncertain value matters at all
    if (value < 0 && !(weight * (squared * (1 - relative) - TINY) * (1 - 4 * UNIT) > now)) {
      int place = atomicAdd(n_open, 1);
      if (place < capacity) open[place] = make_int2((int)row, label);
    } else if (value >= 0 && value < now) {
      p[row] = now = value;
    }
    top = now > top ? now : top;
  }
  if (top > 0) atomicMax(largest, (u64)__double_as_longlong(top));
}

// rn12(|x - c_label|^2) of every row with weight, 0 for the others (relocation ranks by it)
extern "C" __global__ void __launch_bounds__(256)
    own_distances(const Element* __restrict__ X, const double* __restrict__ weights, int N, int D, double scale,
                  const Centre* __restrict__ C, const int* __restrict__ labels, double relative, double flush,
                  double* __restrict__ p, int2* __restrict__ open, int* __restrict__ n_open) {
  const int lane = threadIdx.x % LANES, groups = gridDim.x * blockDim.x / LANES;
  const int first = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, rounds = (N + groups - 1) / groups;
  for (int round = 0; round < rounds; round++) {
    i64 row = (i64)round * groups + first;
    const bool inside = row < N;
    if (!inside) row = N - 1;
    const double squared = own_square(X + row * D, C + (i64)labels[row] * D, D, scale, lane);
    double value = potential(squared, 1.0, false, relative, flush);
    if (weights && weights[row] == 0) value = 0;
    if (lane == 0 && inside) {
      p[row] = value > 0 ? value : 0;
      if (value < 0) open[atomicAdd(n_open, 1)] = make_int2((int)row, labels[row]);
    }
  }
}
