// Which rows keep their label without a look at them (G. Hamerly, "Making k-means even faster", SDM 2010).
//
// A row has an upper bound of the distance to its own centroid and a lower bound of the distance to every other, in the
// frame of the scores. When centroids move the margin between the two shrinks by how far its own and any other one moved,
// and while it is positive no other centroid is as near. What the rows of a cluster have lost since the start is summed
// up for the cluster (`passed`), so that a row keeps one number that does not change: the sum that ends its margin
// (keep_bounds in fragments.cuh). Every rounding goes the safe way.

// How far the two centroids that moved most have moved.
struct Widest {
  float first, second;
  int at;       // which moved most
  u32 arrived;  // blocks that are done
};

__device__ __forceinline__ void widen(Widest& w, float first, float second, int at) {
  w.second = fmaxf(fmaxf(w.second, second), fminf(w.first, first));
  if (first > w.first) {
    w.first = first;
    w.at = at;
  }
}

// How far every centroid is from `known`, those of the iteration before: a warp per centroid. The last block finds the two
// that moved most and brings `passed` up to date. If there were no bounds yet it begins anew, and nothing is settled.
extern "C" __global__ void __launch_bounds__(256)
    measure_drift(const Centre* __restrict__ C, Centre* __restrict__ known, int K, int D, double scale, int N,
                  float* drift, double* total, float* passed, Widest* widest, Control* control, State* state) {
  __shared__ Widest found[8];
  __shared__ bool last;
  if (state->skip) return;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, k = blockIdx.x * 8 + warp;
  if (k < K) {
    double sum = 0;
    bool moved = false;
    for (int d = lane; d < D; d += 32) {
      const i64 i = (i64)k * D + d;
      Centre now = C[i], before = known[i];
      known[i] = now;
      moved |= now != before;
      double t = now * scale - before * scale;
      sum += t * t;
    }
    sum = warp_sum(sum);
    moved = __any_sync(~0u, moved);
    // 1e-30: squares may have underflowed; what overflows settles nothing
    float far = moved ? __double2float_ru(sqrt(sum) * (1 + 1e-9) + 1e-30) : 0.f;
    if (lane == 0) drift[k] = far < 1e37f ? far : __uint_as_float(0x7f800000u);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&widest->arrived, 1) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  const volatile float* all = drift;  // written by other blocks
  Widest mine = {0.f, 0.f, 0, 0};
  for (int i = threadIdx.x; i < K; i += blockDim.x) widen(mine, all[i], 0.f, i);
#pragma unroll
  for (int o = 16; o; o >>= 1) {
    float first = __shfl_xor_sync(~0u, mine.first, o), second = __shfl_xor_sync(~0u, mine.second, o);
    int at = __shfl_xor_sync(~0u, mine.at, o);
    widen(mine, first, second, at);
  }
  if (lane == 0) found[warp] = mine;
  __syncthreads();
  mine = found[0];
  for (int i = 1; i < 8; i++) widen(mine, found[i].first, found[i].second, found[i].at);
  const bool right = control->known;
  for (int i = threadIdx.x; i < K; i += blockDim.x) {
    double lost = __dadd_ru(all[i], i == mine.at ? mine.second : mine.first);
    lost = right ? __dadd_ru(total[i], lost) : 0;
    total[i] = lost;
    passed[i] = __double2float_ru(lost);
  }
  __syncthreads();
  if (threadIdx.x) return;
  widest->arrived = 0;
  control->known = 1;  // once this iteration has made them
  state->listed = right;
  state->n_todo = right ? 0 : N;
}

// Lists the rows whose margin has ended.
extern "C" __global__ void __launch_bounds__(512)
    list_unsettled(const int* __restrict__ labels, const float* __restrict__ ends, int N,
                   const float* __restrict__ passed, int* __restrict__ list, State* __restrict__ state) {
  if (state->skip || !state->listed) return;
  constexpr int PER_THREAD = 4;
  __shared__ int n_block, first;
  const int lane = threadIdx.x & 31;
  for (i64 base = (i64)blockIdx.x * blockDim.x * PER_THREAD; base < N; base += (i64)gridDim.x * blockDim.x * PER_THREAD) {
    if (threadIdx.x == 0) n_block = 0;
    __syncthreads();
    int label[PER_THREAD], place[PER_THREAD];
    float end[PER_THREAD];
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
      i64 i = base + j * blockDim.x + threadIdx.x;
      label[j] = i < N ? labels[i] : 0;
      end[j] = i < N ? ends[i] : 0.f;
    }
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
      const bool open = base + j * blockDim.x + threadIdx.x < N && !(end[j] > passed[label[j]]);
      u32 mask = __ballot_sync(~0u, open);
      int at = 0;
      if (mask && lane == 0) at = atomicAdd(&n_block, __popc(mask));
      at = __shfl_sync(~0u, at, 0) + __popc(mask & ((1u << lane) - 1));
      place[j] = open ? at : -1;
    }
    __syncthreads();
    if (threadIdx.x == 0 && n_block) first = atomicAdd(&state->n_todo, n_block);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++)
      if (place[j] >= 0) list[first + place[j]] = (int)(base + j * blockDim.x + threadIdx.x);
    __syncthreads();
  }
}

// Rows that the certified pass left open get a label that no row has.
extern "C" __global__ void mark_open(const int* __restrict__ open_rows, const State* state, int* labels) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < state->n_open; i += gridDim.x * blockDim.x)
    labels[open_rows[i]] = -2;
}
