// Exact sums of the rows of every cluster, in integer levels.
//
// A column is scaled by a power of two so that |x| < 1 (weights likewise). Level l counts units of 2^(-24 - 32 l) in
// int64: sum = sum_l levels[l] 2^(-24 - 32 l), exactly, whatever the order. Because nothing rounds, adding the rows that
// came and subtracting those that left gives the same integers as summing anew.
//
//   VEC       columns a thread owns       WEIGHTED  rows are multiplied by a weight
//   TERMS     0: float32 and narrower without weights, added in float64 as they are (the host picks `coarse` and the
//             run length so that no sum of a run rounds); n > 0: each value is cut into n float64 terms that add exactly
//   DIFFERENCES  the rows are one block of many: what they change is added to the levels, whatever its size. Rows in
//             no cluster come from one beyond the others
//   SUM_ANEW  tests only: never the difference
#ifndef UNROLL
#define UNROLL 8
#endif

#ifndef DIFFERENCES
#define DIFFERENCES 0
#endif

// A state block whose list of moved rows is long is summed anew; not where only the difference is wanted.
__device__ __forceinline__ bool sum_anew(const State* state, int N) {
#ifdef SUM_ANEW
  return true;
#else
  return !DIFFERENCES && state->n_changed > N / 4;
#endif
}

// ---- which rows moved: of those that were assigned -------------------------------------------------------------
extern "C" __global__ void list_moved(const int* __restrict__ labels, int* __restrict__ old, int N,
                                      const int* __restrict__ list, int2* __restrict__ moved,
                                      State* __restrict__ state) {
  if (state->skip) return;
  constexpr int PER_THREAD = 4;
  const bool listed = state->listed;
  if (listed) N = state->n_todo;
  __shared__ int n_block, first;
  for (i64 base = (i64)blockIdx.x * blockDim.x * PER_THREAD; base < N; base += (i64)gridDim.x * blockDim.x * PER_THREAD) {
    if (threadIdx.x == 0) n_block = 0;
    __syncthreads();
    int row[PER_THREAD], from[PER_THREAD], place[PER_THREAD];
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
      i64 i = base + j * blockDim.x + threadIdx.x;
      row[j] = i < N && listed ? list[i] : (int)i;
      int now = i < N ? labels[row[j]] : 0, before = i < N ? old[row[j]] : 0;
      from[j] = before;
      if (now != before) old[row[j]] = now;
      place[j] = now != before ? 0 : -1;
      u32 mask = __ballot_sync(~0u, now != before);
      int at = 0, lane = threadIdx.x & 31;
      if (mask && lane == 0) at = atomicAdd(&n_block, __popc(mask));
      at = __shfl_sync(~0u, at, 0) + __popc(mask & ((1u << lane) - 1));
      if (place[j] == 0) place[j] = at;
    }
    __syncthreads();
    if (threadIdx.x == 0 && n_block) first = atomicAdd(&state->n_changed, n_block);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++)
      if (place[j] >= 0) moved[first + place[j]] = make_int2(row[j], from[j]);
    __syncthreads();
  }
}

// ---- counting sort of the entries by label: (row) arrives, (~row) leaves ---------------------------------------
// entries[k]: how many entries; counts[k]: rows of cluster k, kept over the iterations. In shared memory where 2 K ints
// fit (use_shared). The levels are zeroed here when everything is summed anew.
extern "C" __global__ void count_entries(const int* __restrict__ labels, const int2* __restrict__ moved, int N, int K,
                                         int use_shared, int* __restrict__ entries, int* __restrict__ counts,
                                         i64* __restrict__ levels, i64 n_levels, State* __restrict__ state) {
  extern __shared__ int local[];
  if (state->skip || state->n_changed == 0) return;
  const bool anew = sum_anew(state, N);
  int *entry = use_shared ? local : entries, *net = use_shared ? local + K : counts;
  if (use_shared) {
    for (int i = threadIdx.x; i < 2 * K; i += blockDim.x) local[i] = 0;
    __syncthreads();
  }
  const i64 threads = (i64)gridDim.x * blockDim.x, me = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (anew) {
    for (i64 i = me; i < n_levels; i += threads) levels[i] = 0;
    for (i64 i = me; i < N; i += threads) atomicAdd(entry + labels[i], 1);
  }
  for (i64 i = me; i < state->n_changed; i += threads) {
    int now = labels[moved[i].x], before = moved[i].y;
    atomicAdd(net + now, 1);
    if (before >= 0) atomicSub(net + before, 1);
    if (!anew) {
      atomicAdd(entry + now, 1);
      atomicAdd(entry + before, 1);
    }
  }
  if (!use_shared) return;
  __syncthreads();
  for (int i = threadIdx.x; i < K; i += blockDim.x) {
    if (local[i]) atomicAdd(entries + i, local[i]);
    if (local[K + i]) atomicAdd(counts + i, local[K + i]);
  }
}

// cursor[k] = entries before label k. One block.
extern "C" __global__ void __launch_bounds__(1024) scan_entries(const int* __restrict__ entries, int K,
                                                                int* __restrict__ cursor, const State* state) {
  __shared__ int sums[1024];
  if (state->skip || state->n_changed == 0) return;
  int t = threadIdx.x, per = (K + 1023) / 1024, total = 0;
  for (int i = 0; i < per; i++) total += t * per + i < K ? entries[t * per + i] : 0;
  sums[t] = total;
  __syncthreads();
  for (int o = 1; o < 1024; o <<= 1) {
    int v = t >= o ? sums[t - o] : 0;
    __syncthreads();
    sums[t] += v;
    __syncthreads();
  }
  int before = sums[t] - total;
  for (int i = 0; i < per; i++)
    if (t * per + i < K) {
      cursor[t * per + i] = before;
      before += entries[t * per + i];
    }
}

extern "C" __global__ void place_entries(const int* __restrict__ labels, const int2* __restrict__ moved, int N, int K,
                                         int use_shared, int* __restrict__ cursor, int2* __restrict__ sorted,
                                         State* __restrict__ state) {
  extern __shared__ int local[];
  if (state->skip || state->n_changed == 0) return;
  const bool anew = sum_anew(state, N);
  const int n = anew ? N : state->n_changed, per = (n + gridDim.x - 1) / gridDim.x;
  const int begin = min(n, (int)blockIdx.x * per), end = min(n, begin + per);
  if (blockIdx.x == 0 && threadIdx.x == 0) state->delta = !anew;
  auto each = [&](auto&& put) {
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
      int row = anew ? i : moved[i].x;
      put(labels[row], row);
      if (!anew) put(moved[i].y, ~row);
    }
  };
  if (use_shared) {  // one place in the global order per block and label
    for (int i = threadIdx.x; i < K; i += blockDim.x) local[i] = 0;
    __syncthreads();
    each([&](int k, int) { atomicAdd(local + k, 1); });
    __syncthreads();
    for (int i = threadIdx.x; i < K; i += blockDim.x)
      if (local[i]) local[i] = atomicAdd(cursor + i, local[i]);
    __syncthreads();
  }
  int* next = use_shared ? local : cursor;
  each([&](int k, int row) { sorted[atomicAdd(next + k, 1)] = make_int2(row, k); });
}

// ---- segmented sums over the sorted entries --------------------------------------------------------------------
// The exact split of a float64 value (|v| < 2^20) into the levels.
__device__ __noinline__ void flush(i64* levels, i64 stride, double v, int n_levels) {
  const double unit = 4294967296.0;  // 2^32
  v *= 16777216.0;                   // 2^24
  for (int l = 0; l < n_levels && v != 0; l++) {
    double q = rint(v);
    v = (v - q) * unit;
    i64 integer = (i64)q;
    if (integer) atomicAdd((u64*)(levels + l * stride), (u64)integer);
  }
}

#if VEC == 4
#if X_BITS == 16
typedef uint2 Pack;
#elif X_BITS == 32
typedef float4 Pack;
#endif
#elif VEC == 2
#if X_BITS == 16
typedef u32 Pack;
#elif X_BITS == 32
typedef float2 Pack;
#else
typedef double2 Pack;
#endif
#else
typedef Element Pack;
#endif
union Values {
  Pack pack;
  Element x[VEC];
};

// A group of D/VEC threads walks `run` sorted entries (fewer when there are few); every thread keeps the sums of its
// VEC columns. scale * scale2 = 2^-e0 per column; values below `coarse` go to the levels one by one (TERMS == 0).
extern "C" __global__ void __launch_bounds__(256)
    segment_sums(const Element* __restrict__ X, const double* __restrict__ weights, const int2* __restrict__ sorted,
                 int N, int D, i64 KD, int run, int run_bits, const double* __restrict__ scale,
                 const double* __restrict__ scale2, const float* __restrict__ coarse, double weight_scale,
                 double weight_scale2, i64* __restrict__ levels, int n_levels, const State* __restrict__ state) {
  if (state->skip || state->n_changed == 0) return;
  const int n = sum_anew(state, N) ? N : 2 * state->n_changed, lanes = D / VEC;
  const i64 t = (i64)blockIdx.x * blockDim.x + threadIdx.x, groups = (i64)gridDim.x * blockDim.x / lanes;
  run = min(run, max(4, (int)((n + groups - 1) / groups)));
  const i64 begin = t / lanes * run;
  const int column = (int)(t % lanes) * VEC;
  if (begin >= n) return;
  const int count = (int)min((i64)run, n - begin);
  sorted += begin;
  int cluster = sorted[0].y;
#if TERMS == 0
  double sum[VEC] = {};
  float threshold[VEC];
#pragma unroll
  for (int j = 0; j < VEC; j++) threshold[j] = coarse[column + j];
  auto flush_all = [&]() {
#pragma unroll
    for (int j = 0; j < VEC; j++) {
      if (sum[j] != 0) flush(levels + (i64)cluster * D + column + j, KD, sum[j] * scale[column + j] * scale2[column + j], n_levels);
      sum[j] = 0;
    }
  };
#else
  // term i holds multiples of 2^-(i + 1)(52 - run_bits) below 2^-i(52 - run_bits): a run of 2^run_bits adds exactly
  double sum[TERMS][VEC] = {}, magic[TERMS];
#pragma unroll
  for (int i = 0; i < TERMS; i++) magic[i] = 1.5 * power_of_two(run_bits - i * (52 - run_bits));
  auto flush_all = [&]() {
#pragma unroll
    for (int i = 0; i < TERMS; i++)
#pragma unroll
      for (int j = 0; j < VEC; j++) {
        if (sum[i][j] != 0) flush(levels + (i64)cluster * D + column + j, KD, sum[i][j], n_levels);
        sum[i][j] = 0;
      }
  };
  double factor[VEC], factor2[VEC];
#pragma unroll
  for (int j = 0; j < VEC; j++) factor[j] = scale[column + j], factor2[j] = scale2[column + j];
  auto add = [&](int j, double v) {
#pragma unroll
    for (int i = 0; i < TERMS; i++) {
      double q = __dsub_rn(__dadd_rn(v, magic[i]), magic[i]);
      sum[i][j] += q;
      v -= q;
    }
    if (v != 0) flush(levels + (i64)cluster * D + column + j, KD, v, n_levels);
  };
#endif
  for (int i = 0; i < count; i += UNROLL) {
    int2 entry[UNROLL];
    Values value[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) entry[u] = sorted[min(i + u, count - 1)];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      int row = entry[u].x < 0 ? ~entry[u].x : entry[u].x;
      value[u].pack = __ldcs((const Pack*)(X + (i64)row * D + column));
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      if (i + u >= count) break;
      if (entry[u].y != cluster) {
        flush_all();
        cluster = entry[u].y;
      }
      const bool leaves = entry[u].x < 0;
#if TERMS == 0
#pragma unroll
      for (int j = 0; j < VEC; j++) {
#if X_BITS == 16
        float v = half_to_float(value[u].x[j]);
#else
        float v = value[u].x[j];
#endif
        v = leaves ? -v : v;
        if (fabsf(v) < threshold[j]) {
          if (v != 0) flush(levels + (i64)cluster * D + column + j, KD, (double)v * scale[column + j] * scale2[column + j], n_levels);
          v = 0;
        }
        sum[j] += v;
      }
#else
#if WEIGHTED
      double w = weights[leaves ? ~entry[u].x : entry[u].x] * weight_scale * weight_scale2;
      if (leaves) w = -w;
#endif
#pragma unroll
      for (int j = 0; j < VEC; j++) {
        double v = to_double(value[u].x[j]) * factor[j] * factor2[j];
#if WEIGHTED
        double product = __dmul_rn(w, v), rest = __fma_rn(w, v, -product);
        add(j, product);
        if (rest != 0) add(j, rest);
#else
        add(j, leaves ? -v : v);
#endif
      }
#endif
    }
  }
  flush_all();
}

#if WEIGHTED
// The weights themselves, by the same levels: one thread per run.
extern "C" __global__ void __launch_bounds__(256)
    segment_weights(const double* __restrict__ weights, const int2* __restrict__ sorted, int N, int K, int run,
                    double weight_scale, double weight_scale2, i64* __restrict__ levels, int n_levels,
                    const State* __restrict__ state) {
  if (state->skip || state->n_changed == 0) return;
  constexpr int HELD = 4;  // levels kept in registers
  const int n = sum_anew(state, N) ? N : 2 * state->n_changed;
  const i64 begin = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * run, end = min(begin + run, (i64)n);
  if (begin >= end) return;
  i64 held[HELD] = {};
  int cluster = sorted[begin].y;
  auto put = [&]() {
#pragma unroll
    for (int l = 0; l < HELD; l++) {
      if (held[l] && l < n_levels) atomicAdd((u64*)(levels + (i64)l * K + cluster), (u64)held[l]);
      held[l] = 0;
    }
  };
  for (i64 i = begin; i < end; i++) {
    int2 entry = sorted[i];
    if (entry.y != cluster) {
      put();
      cluster = entry.y;
    }
    bool leaves = entry.x < 0;
    double w = weights[leaves ? ~entry.x : entry.x] * weight_scale * weight_scale2 * 16777216.0;
    if (leaves) w = -w;
#pragma unroll
    for (int l = 0; l < HELD; l++) {
      double q = rint(w);
      held[l] += (i64)q;
      w = (w - q) * 4294967296.0;
    }
    for (int l = HELD; l < n_levels && w != 0; l++) {
      double q = rint(w);
      w = (w - q) * 4294967296.0;
      if (q != 0) atomicAdd((u64*)(levels + (i64)l * K + cluster), (u64)(i64)q);
    }
  }
  put();
}
#endif
