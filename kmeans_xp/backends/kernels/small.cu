// Few columns and few clusters: one read of X gives the labels in float32, with a proof for almost every row, and the list
// of rows that moved (their sums are updated by sums.cu). Tensor cores would only read padding here.
//
//   COLUMNS  1 to 4
#define UNIT 1.1102230246251565e-16
#define UNDERFLOW 1e-290
constexpr int ROWS = 4;  // per thread

struct alignas(sizeof(Element) * (COLUMNS == 3 ? 1 : COLUMNS)) Row {
  Element x[COLUMNS];
};


// Appends (row, previous label) of every moved row; the whole block calls it.
template <int COUNT>
__device__ __forceinline__ void append_moved(const bool (&moves)[COUNT], const int (&row)[COUNT],
                                             const int (&before)[COUNT], int* shared_count, int* shared_first,
                                             int* counter, int2* moved) {
  const int lane = threadIdx.x & 31;
  int place[COUNT];
#pragma unroll
  for (int j = 0; j < COUNT; j++) {
    u32 mask = __ballot_sync(~0u, moves[j]);
    int at = 0;
    if (mask && lane == 0) at = atomicAdd(shared_count, __popc(mask));
    place[j] = __shfl_sync(~0u, at, 0) + __popc(mask & ((1u << lane) - 1));
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    *shared_first = *shared_count ? atomicAdd(counter, *shared_count) : 0;
    *shared_count = 0;
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < COUNT; j++)
    if (moves[j]) moved[*shared_first + place[j]] = make_int2(row[j], before[j]);
}

// Also opens the iteration: entries of the counting sort are zeroed.
extern "C" __global__ void __launch_bounds__(512)
    label_small(const Element* __restrict__ X, const Centre* __restrict__ C, const double* __restrict__ centre, int N,
                int K, double scale, const u8* __restrict__ repeats, int* __restrict__ labels,
                int2* __restrict__ moved, int* __restrict__ open_rows, int* __restrict__ entries,
                State* __restrict__ state) {
  extern __shared__ float centroids[];  // K times COLUMNS + 1: the centroid and -|c|^2/2
  __shared__ int n_block, first;
  __shared__ u32 longest;
  if (state->skip) return;
  if (threadIdx.x == 0) n_block = 0, longest = 0;
  if (blockIdx.x == 0)
    for (int k = threadIdx.x; k < K; k += blockDim.x) entries[k] = 0;
  __syncthreads();
  for (int k = threadIdx.x; k < K; k += blockDim.x) {
    if (repeats[k]) {  // an earlier centroid is the same: never the best
      for (int d = 0; d < COLUMNS; d++) centroids[k * (COLUMNS + 1) + d] = 0;
      centroids[k * (COLUMNS + 1) + COLUMNS] = -3.4e38f;
      continue;
    }
    double square = 0;
    for (int d = 0; d < COLUMNS; d++) {
      double v = (double)C[(i64)k * COLUMNS + d] * scale - centre[d];
      centroids[k * (COLUMNS + 1) + d] = (float)v;
      square += v * v;
    }
    centroids[k * (COLUMNS + 1) + COLUMNS] = (float)(-0.5 * square);
    atomicMax(&longest, __float_as_uint(norm_above(sqrt(square))));
  }
  __syncthreads();
  // x and c are rounded once to float32, the score in COLUMNS fused steps, the bias once:
  // 2E = 2 (COLUMNS + 4) 2^-24 (|x| C + C^2/2), plus underflow. |x|_1 >= |x|.
  const float cmax = __uint_as_float(longest), u = 2.002f * (COLUMNS + 4) * 5.9604645e-8f;
  const float by_norm = u * cmax, constant = u * 0.5f * cmax * cmax + 1e-30f * (1 + cmax);
  double middle[COLUMNS];
#pragma unroll
  for (int d = 0; d < COLUMNS; d++) middle[d] = centre[d];

  const i64 tile = (i64)blockDim.x * ROWS;
  for (i64 base = blockIdx.x * tile; base < N; base += gridDim.x * tile) {
    float x[ROWS][COLUMNS], best[ROWS], second[ROWS];
    int row[ROWS], before[ROWS], index[ROWS];
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      i64 i = base + j * blockDim.x + threadIdx.x;
      row[j] = i < N ? (int)i : -1;
      before[j] = i < N ? labels[i] : 0;
      const Row from = ((const Row*)X)[i < N ? i : 0];
#pragma unroll
      for (int d = 0; d < COLUMNS; d++) x[j][d] = (float)(to_double(from.x[d]) * scale - middle[d]);
      best[j] = second[j] = -3.4e38f;
      index[j] = 0;
    }
#pragma unroll 2
    for (int k = 0; k < K; k++) {
      float c[COLUMNS + 1];
#pragma unroll
      for (int d = 0; d <= COLUMNS; d++) c[d] = centroids[k * (COLUMNS + 1) + d];
#pragma unroll
      for (int j = 0; j < ROWS; j++) {
        float score = c[COLUMNS];
#pragma unroll
        for (int d = 0; d < COLUMNS; d++) score = fmaf(x[j][d], c[d], score);
        second[j] = fmaxf(second[j], fminf(best[j], score));
        index[j] = score > best[j] ? k : index[j];
        best[j] = fmaxf(best[j], score);
      }
    }
    bool moves[ROWS];
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      float norm = 0;
#pragma unroll
      for (int d = 0; d < COLUMNS; d++) norm += fabsf(x[j][d]);
      // an overflow makes some of these infinite or NaN, and the row open
      const bool sure = best[j] - second[j] > by_norm * norm + constant && best[j] < 1e38f && norm < 1e18f;
      const bool open = row[j] >= 0 && !sure;
      int place = warp_append(open, &state->n_open);
      if (open) open_rows[place] = row[j];
      moves[j] = row[j] >= 0 && sure && index[j] != before[j];
      if (moves[j]) labels[row[j]] = index[j];
    }
    append_moved(moves, row, before, &n_block, &first, &state->n_changed, moved);
  }
}

// The open rows in float64, a thread each; what float64 cannot tell either goes to `full_rows`.
extern "C" __global__ void __launch_bounds__(256)
    decide_small(const Element* __restrict__ X, const Centre* __restrict__ C, int K, double scale,
                 const u8* __restrict__ repeats, const int* __restrict__ open_rows, int* __restrict__ full_rows, int2* __restrict__ moved,
                 int* __restrict__ labels, State* __restrict__ state) {
  if (state->skip) return;
  const int n = state->n_open;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const int row = open_rows[i];
    double best = __longlong_as_double(0x7ff0000000000000ll), second = best;
    int index = 0;
    for (int k = 0; k < K; k++) {
      if (repeats[k]) continue;
      double square = 0;
#pragma unroll
      for (int d = 0; d < COLUMNS; d++) {
        double t = to_double(X[(i64)row * COLUMNS + d]) * scale - (double)C[(i64)k * COLUMNS + d] * scale;
        square = fma(t, t, square);
      }
      second = fmin(second, fmax(best, square));
      if (square < best) best = square, index = k;
    }
    if (best * (1 + 2.01 * (COLUMNS + 8) * UNIT) + UNDERFLOW < second) {
      int before = labels[row];
      if (before == index) continue;
      labels[row] = index;
      moved[atomicAdd(&state->n_changed, 1)] = make_int2(row, before);
    } else {
      full_rows[atomicAdd(&state->n_full, 1)] = row;
    }
  }
}
