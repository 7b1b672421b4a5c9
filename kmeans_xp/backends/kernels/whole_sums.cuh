// Exact sums of the clusters of one problem, and their rounded means.
//
// A sum is LEVELS integers: those of level l count units of 2^(exponent - 61 - 32 l), 2^exponent above Σ w|x| of the
// feature, so that no level overflows.
constexpr int TOP = 61;

// Cuts a value, in units of the first level, and adds it; what the levels do not hold is left.
__device__ __forceinline__ double cut(double v, i64 (&part)[LEVELS]) {
#pragma unroll
  for (int l = 0; l < LEVELS; l++) {
    const double whole = rint(v);
    part[l] += (i64)whole;
    v = (v - whole) * 4294967296.0;  // 2^32
  }
  return v;
}

// Adds w x_j of a row, or w for the column beyond the features.
__device__ __forceinline__ void add_value(const Problem& q, int row, int j, i64 (&part)[LEVELS], bool& bad) {
  const double scale = power_of_two(TOP - q.exponents[j]);
#if WEIGHTED
  const double w = q.w[row];
  if (j == q.d) {
    bad |= cut(w * scale, part) != 0;
    return;
  }
  const double v = q.at(row, j), high = __dmul_rn(w, v), low = __fma_rn(w, v, -high);
  bad |= cut(high * scale, part) != 0;
  if (low != 0) bad |= cut(low * scale, part) != 0;
#else
  bad |= cut((double)q.at(row, j) * scale, part) != 0;
#endif
}

__device__ __forceinline__ void add_to(const Problem& q, int k, int j, const i64 (&part)[LEVELS], bool leaves) {
#pragma unroll
  for (int l = 0; l < LEVELS; l++)
    if (part[l])
      atomicAdd((u64*)q.sums + (l * q.k + k) * q.width + j, leaves ? (u64) - part[l] : (u64)part[l]);
}

// Lists the rows that weigh, cluster by cluster; counts them.
__device__ __forceinline__ void sort_rows(const Problem& q, int* order, Scratch& s) {
  for (int k = threadIdx.x; k < q.k; k += blockDim.x) q.counts[k] = 0, q.touched[k] = 1;
  __syncthreads();
  for (int r = threadIdx.x; r < q.n; r += blockDim.x)
    if (q.weighs(r)) atomicAdd(q.counts + q.labels[r], 1);
  __syncthreads();
  if (threadIdx.x < 32) {
    int before = 0;
    for (int first = 0; first < q.k; first += 32) {
      const int k = first + threadIdx.x, count = k < q.k ? q.counts[k] : 0;
      int running = count;
      for (int o = 1; o < 32; o <<= 1) {
        const int v = __shfl_up_sync(~0u, running, o);
        if ((int)threadIdx.x >= o) running += v;
      }
      if (k < q.k) q.cursor[k] = before + running - count;
      before += __shfl_sync(~0u, running, 31);
    }
    if (threadIdx.x == 0) s.total = before;
  }
  __syncthreads();
  for (int r = threadIdx.x; r < q.n; r += blockDim.x)
    if (q.weighs(r)) order[atomicAdd(q.cursor + q.labels[r], 1)] = r;
  __syncthreads();
}

// Sums of all rows: groups of threads, a thread a column, walk runs of sorted rows.
__device__ __forceinline__ void sum_anew(const Problem& q, Scratch& s, bool& bad) {
  int* order = (int*)q.p;
  for (int i = threadIdx.x; i < LEVELS * q.k * q.width; i += blockDim.x) q.sums[i] = 0;
  sort_rows(q, order, s);
  const int n = s.total, groups = max(1, (int)blockDim.x / q.width), run = (n + groups - 1) / groups;
  for (int item = threadIdx.x; item < groups * q.width; item += blockDim.x) {
    const int group = item / q.width, j = item - group * q.width;
    const int lo = min(n, group * run), hi = min(n, lo + run);
    i64 part[LEVELS] = {};
    int cluster = lo < hi ? q.labels[order[lo]] : 0;
    for (int i = lo; i < hi; i++) {
      const int row = order[i], k = q.labels[row];
      if (k != cluster) {
        add_to(q, cluster, j, part, false);
        for (int l = 0; l < LEVELS; l++) part[l] = 0;
        cluster = k;
      }
      add_value(q, row, j, part, bad);
    }
    add_to(q, cluster, j, part, false);
  }
}

// Brings sums and counts up to date with the rows that moved.
__device__ __forceinline__ void sum_moved(const Problem& q, int n_moved, bool& bad) {
  const int2* moved = (const int2*)q.p;
  for (int item = threadIdx.x; item < n_moved * q.width; item += blockDim.x) {
    const int i = item / q.width, j = item - i * q.width, row = moved[i].x;
    if (!q.weighs(row)) continue;
    const int now = q.labels[row], before = moved[i].y;
    i64 part[LEVELS] = {};
    add_value(q, row, j, part, bad);
    add_to(q, now, j, part, false);
    add_to(q, before, j, part, true);
    if (j) continue;
    atomicAdd(q.counts + now, 1);
    atomicSub(q.counts + before, 1);
    q.touched[now] = q.touched[before] = 1;
  }
}

// Takes the rows found for empty clusters from their own, or back. A thread keeps to its columns.
__device__ __forceinline__ void lend(const Problem& q, bool back, bool& bad) {
  for (int k = 0; k < q.k; k++) {
    const int row = q.rows[k];
    if (row < 0) continue;
    const int owner = q.labels[row];
    for (int j = threadIdx.x; j < q.width; j += blockDim.x) {
      i64 part[LEVELS] = {};
      add_value(q, row, j, part, bad);
      add_to(q, k, j, part, back);
      add_to(q, owner, j, part, !back);
    }
    if (threadIdx.x == 0) {
      q.counts[k] += back ? -1 : 1;
      q.counts[owner] += back ? 1 : -1;
      q.touched[k] = q.touched[owner] = 1;
    }
  }
  __syncthreads();
}

// Finds a row for every empty cluster, by decreasing potential, ties to the lowest; how many there are.
__device__ __forceinline__ int find_rows(const Problem& q, Scratch& s, bool& bad) {
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) q.p[r] = q.weighs(r) ? own_potential(q, r, bad) : 0;
  __syncthreads();
  int found = 0;
  for (int k = 0; k < q.k; k++) {
    int row = -1;
    if (q.counts[k] == 0) {
      double mine = 0;
      for (int r = threadIdx.x; r < q.n; r += blockDim.x) mine = q.p[r] > mine ? q.p[r] : mine;
      const double largest = block_max(mine, s);
      if (largest > 0) {
        i64 first = q.n;
        for (int r = threadIdx.x; r < q.n; r += blockDim.x)
          if (q.p[r] == largest) first = min(first, (i64)r);
        row = (int)block_min(first, s);
        found++;
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      q.rows[k] = row;
      if (row >= 0) q.p[row] = 0;
    }
    __syncthreads();
  }
  return found;
}

__device__ __noinline__ double slow_mean(const i64* sums, i64 stride, int exponent, const i64* weights, i64 count,
                                         int weight_exponent) {
  const Sum num = {sums, stride, LEVELS, exponent};
#if WEIGHTED
  const Sum den = {weights, stride, LEVELS, weight_exponent};
#else
  const Sum den = {&count, 0, 1, 0};
#endif
  return rounded_quotient(num, den);
}

// The sum in units of its first level, and the size of what was added.
__device__ __forceinline__ double rough_sum(const i64* sums, i64 stride, double& size) {
  double value = 0;
  size = 0;
#pragma unroll
  for (int l = LEVELS - 1; l >= 0; l--) {
    const double t = (double)sums[l * stride] * power_of_two(-32 * l);
    value += t;
    size += fabs(t);
  }
  return value;
}

// The mean of feature j of cluster k, rounded once: by float64 where both ends of its error interval round alike.
__device__ __forceinline__ Value mean_of(const Problem& q, int k, int j) {
  const i64 stride = (i64)q.k * q.width;
  const i64 *sums = q.sums + k * q.width + j, *weights = q.sums + k * q.width + q.d;
  const int exponent = q.exponents[j] - TOP, weight_exponent = WEIGHTED ? q.exponents[q.d] - TOP : 0;
#if X_BITS != 64
  double size, total_size = 0, total = q.counts[k];
  const double value = rough_sum(sums, stride, size);
#if WEIGHTED
  total = rough_sum(weights, stride, total_size);
#endif
  const double mean = value / total;
  const double error = (size + 2 * total_size * fabs(mean)) / total * (16 * UNIT) + fabs(mean) * (8 * UNIT);
  const double unit = power_of_two(exponent - weight_exponent);
  const float low = (float)((mean - error) * unit), high = (float)((mean + error) * unit);
  if (low == high) return low + 0.0f;
#endif
  return (Value)slow_mean(sums, stride, exponent, weights, q.counts[k], weight_exponent) + (Value)0;
}

// Moves the centroids that were touched; Σ |c_new - c_old|^2 of this thread's values.
__device__ __forceinline__ double move_centroids(const Problem& q, bool& bad) {
  double shift = 0;
  for (int i = threadIdx.x; i < q.k * q.d; i += blockDim.x) {
    const int k = i / q.d, j = i - k * q.d;
    if (!q.touched[k] || !q.counts[k]) continue;
    Value& c = q.c[j * q.places + k];
    const Value now = mean_of(q, k, j);
    bad |= now != 0 && fabs((double)now) < SMALL;
    const double off = (double)now - (double)c;
    shift += off * off;
    c = now;
  }
  return shift;
}
