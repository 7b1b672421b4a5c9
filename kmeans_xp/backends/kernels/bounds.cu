// Rows that cannot have changed their label (G. Hamerly, "Making k-means even faster", SDM 2010).
//
// A row with upper bound u of the distance to its centroid and lower bound l to all others keeps its label while the
// centroids have moved by less than l - u. drift[k] adds up, since the bounds began, how far centroid k and the centroid
// that moved most went in each iteration, rounded upwards. gaps[i] = l - u + drift[label] when row i was last looked at,
// so that a row is safe while gaps[i] > drift[label]: no row is written to. Lengths are in scaled units.

// shifts[k] = |c_k - previous_k|; largest = their maximum; previous = c. A warp per centroid.
extern "C" __global__ void measure_shifts(const Centre* __restrict__ C, Centre* __restrict__ previous, int K, int D,
                                          double scale, float* __restrict__ shifts, u32* __restrict__ largest,
                                          const State* __restrict__ state) {
  if (state->skip) return;
  int k = (blockIdx.x * blockDim.x + threadIdx.x) >> 5, lane = threadIdx.x & 31;
  if (k >= K) return;
  double sum = 0;
  for (int d = lane; d < D; d += 32) {
    i64 i = (i64)k * D + d;
    double t = (double)C[i] * scale - (double)previous[i] * scale;
    sum += t * t;
    previous[i] = C[i];
  }
  float shift = norm_above(sqrt(warp_sum(sum)));
  if (lane == 0) {
    shifts[k] = shift;
    atomicMax(largest, __float_as_uint(shift));
  }
}

extern "C" __global__ void add_drift(float* __restrict__ drift, const float* __restrict__ shifts,
                                     const float* __restrict__ largest, int K, const State* __restrict__ state) {
  if (state->skip) return;
  int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k < K) drift[k] = __fadd_ru(drift[k], __fadd_ru(shifts[k], *largest));
}

// The rows that must be looked at. `largest` is free for the next iteration's maximum then.
extern "C" __global__ void list_unsafe(const int* __restrict__ labels, const float* __restrict__ gaps, int N,
                                       const float* __restrict__ drift, u32* __restrict__ largest,
                                       int* __restrict__ list, State* __restrict__ state) {
  if (state->skip) return;
  if (blockIdx.x == 0 && threadIdx.x == 0) *largest = 0;
  constexpr int PER_THREAD = 4;
  __shared__ int n_block, first;
  const int lane = threadIdx.x & 31;
  const i64 step = (i64)gridDim.x * blockDim.x * PER_THREAD;
  for (i64 base = (i64)blockIdx.x * blockDim.x * PER_THREAD; base < N; base += step) {
    if (threadIdx.x == 0) n_block = 0;
    __syncthreads();
    int place[PER_THREAD];
    const i64 i0 = base + (i64)threadIdx.x * PER_THREAD;
    int label[PER_THREAD];
    float gap[PER_THREAD];
    if (i0 + PER_THREAD <= N) {
      int4 l = *(const int4*)(labels + i0);
      float4 g = *(const float4*)(gaps + i0);
      label[0] = l.x, label[1] = l.y, label[2] = l.z, label[3] = l.w;
      gap[0] = g.x, gap[1] = g.y, gap[2] = g.z, gap[3] = g.w;
    } else {
      for (int j = 0; j < PER_THREAD; j++) {
        label[j] = i0 + j < N ? labels[i0 + j] : -1;
        gap[j] = i0 + j < N ? gaps[i0 + j] : 0.f;
      }
    }
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
      const bool unsafe = i0 + j < N && (label[j] < 0 || !(gap[j] > drift[label[j]]));
      u32 mask = __ballot_sync(~0u, unsafe);
      int at = 0;
      if (mask && lane == 0) at = atomicAdd(&n_block, __popc(mask));
      at = __shfl_sync(~0u, at, 0) + __popc(mask & ((1u << lane) - 1));
      place[j] = unsafe ? at : -1;
    }
    __syncthreads();
    if (threadIdx.x == 0 && n_block) first = atomicAdd(&state->n_todo, n_block);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++)
      if (place[j] >= 0) list[first + place[j]] = (int)(i0 + j);
    __syncthreads();
  }
}
