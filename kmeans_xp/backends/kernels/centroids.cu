// Once per iteration: the images of the centroids that the tile kernels fetch, and the scalars of their error bounds.
//
//   TILE1, CHUNK1   the certified pass (one part)      TILE2, CHUNK2   the recheck (hi and lo)
//
// An image is a sequence of stages [tile][chunk]: rows of 64 halves in the 128-byte swizzle, then one float per
// centroid, the bias -|c|^2/2.
constexpr int PART1 = (CHUNK1 + 63) / 64 * TILE1 * 128, STAGE1 = PART1 + 1024;
constexpr int PART2 = (CHUNK2 + 63) / 64 * TILE2 * 128, STAGE2 = 2 * PART2 + 1024;

// The column at place k of the image: the k order of the operands (fragments.cuh).
__device__ __forceinline__ int image_column(int k) {
  int step = k / 16, p = k % 16;
  return 32 * (step / 2) + 8 * ((p & 7) >> 1) + (p & 1) + ((p >> 3) << 1) + ((step & 1) << 2);
}

// Byte offset of row r, column k in a swizzled part with `tile` rows.
__device__ __forceinline__ int swizzled(int r, int k, int tile) {
  return (k / 64) * tile * 128 + (r >> 3) * 1024 + (r & 7) * 128 + ((((k % 64) >> 3) ^ (r & 7)) << 4) + (k & 7) * 2;
}

// A warp per place of the images. A centroid that repeats an earlier one, or is longer than `limit`, is left out: it
// gets a score below all others. (Places beyond K also.)
extern "C" __global__ void write_images(const Centre* __restrict__ C, const double* __restrict__ centre, int K, int D,
                                        int Dp, int places, double scale, double limit,
                                        const u8* __restrict__ repeats, u8* __restrict__ image1,
                                        u8* __restrict__ image2, State* __restrict__ state) {
  if (state->skip) return;
  int n = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), lane = threadIdx.x & 31;
  if (n >= places) return;
  double norm = 0;
  bool used = n < K && !repeats[n];
  if (used) {
    for (int d = lane; d < D; d += 32) {
      double v = (double)C[(i64)n * D + d] * scale - centre[d];
      norm += v * v;
    }
    norm = sqrt(warp_sum(norm));
    if (!(norm <= limit)) {
      if (lane == 0) atomicMin(&state->far_norm, __float_as_uint(__double2float_rd(norm * (1 - 1e-9))));
      used = false;
    }
  }
  double error = 0, error2 = 0;
  u8* at1 = image1 + (i64)(n / TILE1) * (Dp / CHUNK1) * STAGE1;
  u8* at2 = image2 + (i64)(n / TILE2) * (Dp / CHUNK2) * STAGE2;
  for (int k = lane; k < Dp; k += 32) {
    int d = image_column(k);
    double v = used && d < D ? (double)C[(i64)n * D + d] * scale - centre[d] : 0.0;
    u16 hi = float_to_half((float)v);
    double rest = v - half_to_float(hi);
    u16 lo = float_to_half((float)rest);
    double rest2 = rest - half_to_float(lo);
    error += rest * rest;
    error2 += rest2 * rest2;
    *(u16*)(at1 + (i64)(k / CHUNK1) * STAGE1 + swizzled(n % TILE1, k % CHUNK1, TILE1)) = hi;
    u8* part = at2 + (i64)(k / CHUNK2) * STAGE2 + swizzled(n % TILE2, k % CHUNK2, TILE2);
    *(u16*)part = hi;
    *(u16*)(part + PART2) = lo;
  }
  error = warp_sum(error);
  error2 = warp_sum(error2);
  if (lane) return;
  double half_square = 0.5 * norm * norm;
  // 786432 = 1.5 * 2^19 makes the packed score (certify.cu); both biases belong to the last chunk of a tile
  ((float*)(at1 + (i64)(Dp / CHUNK1 - 1) * STAGE1 + PART1))[n % TILE1] = used ? (float)(786432.0 - half_square) : 586432.f;
  ((float*)(at2 + (i64)(Dp / CHUNK2 - 1) * STAGE2 + 2 * PART2))[n % TILE2] = used ? (float)(-half_square) : -1e30f;
  if (!used) return;
  atomicMax(&state->centre_norm, __float_as_uint(norm_above(norm)));
  atomicMax(&state->centre_error, __float_as_uint(norm_above(sqrt(error))));
  atomicMax(&state->centre_error2, __float_as_uint(norm_above(sqrt(error2))));
}

// Opens an iteration; one that is not `bounded` leaves no bounds that the next could use.
extern "C" __global__ void begin(State* state, Control* control, int* entries, int K, int bounded) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < K; i += gridDim.x * blockDim.x) entries[i] = 0;
  if (blockIdx.x || threadIdx.x) return;
  State fresh = {};
  fresh.far_norm = 0x7f800000u;
  fresh.skip = control->hold;
  fresh.iteration = control->iteration;
  *state = fresh;
  if (!bounded) control->known = 0;
}

// Closes it: the state goes to the host's memory, in a ring of eight.
extern "C" __global__ void finish(const State* state, Control* control, State* log) {
  if (!state->skip) control->hold = state->n_empty > 0;
  control->iteration++;
  log[state->iteration & 7] = *state;
}

// ---- identical centroids: the lowest index stands for all -------------------------------------------------------
__device__ __forceinline__ bool same_centroid(const Centre* a, const Centre* b, int D) {
  for (int d = 0; d < D; d++)
    if (a[d] != b[d]) return false;
  return true;
}

// An open hash table of centroids; a full run of 64 occupied places is left alone (merging is only a shortcut).
extern "C" __global__ void find_repeats(const Centre* __restrict__ C, int K, int D, int* table, int mask, int phase,
                                        u8* repeats) {
  int n = blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= K) return;
  u64 h = 1469598103934665603ull;
  for (int d = 0; d < D; d++) {
    h = (h ^ (u64)__double_as_longlong((double)C[(i64)n * D + d])) * 1099511628211ull;
    h ^= h >> 29;
  }
  if (phase) repeats[n] = 0;
  for (int probe = 0; probe < 64; probe++) {
    int* place = table + ((h + probe) & mask);
    int found = phase ? *place : atomicCAS(place, 0x7fffffff, n);
    if (found == 0x7fffffff) return;
    if (found != n && !same_centroid(C + (i64)found * D, C + (i64)n * D, D)) continue;
    if (phase)
      repeats[n] = found < n;
    else
      atomicMin(place, n);
    return;
  }
}
