// The certified pass: every row against every centroid in half precision, with a proof for almost every row.
//
// The score of (x, c) is x.c - |c|^2/2 on scaled, centred data with |x|, |c| <= 256. A row is certified when its best
// score leads the second best by more than 2E; the others go to `open_rows`.
//
//   CHUNK    columns held in registers at a time       CHUNKED  1: rows are longer than CHUNK
//   PREFETCH 1: load the next rows during the tile loop
//   BOUNDS   1: distance bounds are written for every row, and only listed rows are taken where the state says so
//   NO_CERTIFICATE  mutation test: every row counts as certified

// Best and second best of a row. Value and index travel in one integer: t = score + 1.5 * 2^19 lies on the grid 2^-4
// in [2^19, 2^20), so bits(t) * 64 + column keeps the 23 mantissa bits and orders like t.
#define SCORE_BASE 262144.0f  // decoded scores are offset by 2^18
#define SCORE_STEP 0.0625f

struct Best {
  float first, second;  // packed
  int tile;
};

__device__ __forceinline__ float unpack(float packed) {
  return (float)((__float_as_uint(packed) >> 6) & 0x7fffffu) * SCORE_STEP;
}

// Folds one tile of scores into the best two. `sixty_four` is 64, hidden from the compiler: IMAD leaves the ALU pipe
// to the maxima.
__device__ __forceinline__ void fold(Best (&best)[2], const float (&score)[TILE / 2], const float* bias, int tile,
                                     u32 sixty_four) {
  int first[2] = {0, 0}, second[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < TILE / 8; n++) {
    float2 b = *(const float2*)(bias + n * 8 + (threadIdx.x & 3) * 2);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      u32 p, q;
      asm("mad.lo.u32 %0, %1, %2, %3;"
          : "=r"(p) : "r"(__float_as_uint(__fadd_rn(score[n * 4 + h * 2], b.x))), "r"(sixty_four), "r"((u32)(n * 2)));
      asm("mad.lo.u32 %0, %1, %2, %3;"
          : "=r"(q)
          : "r"(__float_as_uint(__fadd_rn(score[n * 4 + h * 2 + 1], b.y))), "r"(sixty_four), "r"((u32)(n * 2 + 1)));
      int high = max((int)p, (int)q), low = min((int)p, (int)q), beaten = min(first[h], high);
      second[h] = max(max(second[h], low), beaten);
      first[h] = max(first[h], high);
    }
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float f = __int_as_float(first[h]);
    best[h].second = fmaxf(fmaxf(best[h].second, __int_as_float(second[h])), fminf(best[h].first, f));
    if (f > best[h].first) {
      best[h].first = f;
      best[h].tile = tile;
    }
  }
}

extern "C" __global__ void __launch_bounds__(WARPGROUPS * 128, 1)
    certify(const u16* __restrict__ hi, const u8* __restrict__ image, int n_rows, int n_tiles, int n_chunks,
            const float2* __restrict__ norms, State* __restrict__ state, float alpha, u32 sixty_four,
            int* __restrict__ labels, int* __restrict__ open_rows, const int* __restrict__ list,
            float* __restrict__ bounds, const float* __restrict__ passed) {
  extern __shared__ __align__(1024) u8 memory[];
  if (state->skip) return;
  if (BOUNDS && state->listed) n_rows = state->n_todo;
  constexpr int BLOCK_ROWS = WARPGROUPS * 64;
  const int lane = threadIdx.x & 31, quarter = lane & 3;
  const int in_block = (threadIdx.x >> 5) * 16 + (lane >> 2);
  const i64 stride = (i64)n_chunks * CHUNK;
  const int n_blocks = (n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
  const int passes = (int)blockIdx.x < n_blocks ? (n_blocks - 1 - (int)blockIdx.x) / (int)gridDim.x + 1 : 0;
  Ring ring;
  ring.start(memory, image, n_tiles * n_chunks, passes);

  // 2E = by_norm |x| + by_error |x - hi| + constant. alpha units of 2^-24 |x||c| bound the accumulation; 1.001 covers
  // the few roundings of this line, of the centring in float64 and of the norms; 0.25 the packing grid and the bias.
  const float C = __uint_as_float(state->centre_norm), dc = __uint_as_float(state->centre_error);
  const float u = alpha * 5.9604645e-8f;
  const float by_norm = 2.002f * (dc + u * (C + dc)), by_error = 2.002f * (C + dc) * (1 + u), constant = 0.25f;

  auto row_of = [&](int block, int eight) {
    int r = block * BLOCK_ROWS + in_block + eight;
    r = r < n_rows ? r : n_rows - 1;
    return BOUNDS && state->listed ? list[r] : r;
  };
  u32 a[STEPS][4];
#if PREFETCH
  if (passes) load_rows(a, hi + row_of(blockIdx.x, 0) * stride, hi + row_of(blockIdx.x, 8) * stride);
#endif
  for (int block = blockIdx.x; block < n_blocks; block += gridDim.x) {
    const int rows[2] = {row_of(block, 0), row_of(block, 8)};
    const u16 *first = hi + rows[0] * stride, *second = hi + rows[1] * stride;
#if PREFETCH
    u32 next[STEPS][4];
    if (block + gridDim.x < n_blocks)
      load_rows(next, hi + row_of(block + gridDim.x, 0) * stride, hi + row_of(block + gridDim.x, 8) * stride);
#elif !CHUNKED
    load_rows(a, first, second);
#endif
    Best best[2] = {{0.f, 0.f, 0}, {0.f, 0.f, 0}};
    for (int tile = 0; tile < n_tiles; tile++) {
      float acc[TILE / 2];
#if CHUNKED
      // each chunk starts from zero and is added in float32: the error grows with CHUNK + n_chunks, not with D
      float score[TILE / 2];
#pragma unroll
      for (int i = 0; i < TILE / 2; i++) score[i] = 0.f;
      for (int chunk = 0; chunk < n_chunks; chunk++) {
        load_rows(a, first + chunk * CHUNK, second + chunk * CHUNK);
        u32 at = ring.acquire(tile * n_chunks + chunk);
        multiply_begin();
#pragma unroll
        for (int k = 0; k < STEPS; k++) multiply(acc, a[k], ring.base + at, k, k > 0);
        multiply_end(acc);
#pragma unroll
        for (int i = 0; i < TILE / 2; i++) score[i] += acc[i];
        if (chunk == n_chunks - 1) fold(best, score, (const float*)(memory + at + PART_BYTES), tile, sixty_four);
        ring.release(tile * n_chunks + chunk);
      }
#else
      u32 at = ring.acquire(tile);
      multiply_begin();
#pragma unroll
      for (int k = 0; k < STEPS; k++) multiply(acc, a[k], ring.base + at, k, k > 0);
      multiply_end(acc);
      fold(best, acc, (const float*)(memory + at + PART_BYTES), tile, sixty_four);
      ring.release(tile);
#endif
    }
    // the four lanes of a row agree on its best two; lane `quarter` == h decides about row h
    bool open = false;
    int mine = 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int column = __float_as_uint(best[h].first) & 63u;
      float b1 = unpack(best[h].first), b2 = unpack(best[h].second);
      int index = best[h].tile * TILE + (column >> 1) * 8 + quarter * 2 + (column & 1);
#pragma unroll
      for (int o = 1; o < 4; o <<= 1) {
        float other1 = __shfl_xor_sync(~0u, b1, o), other2 = __shfl_xor_sync(~0u, b2, o);
        int other_index = __shfl_xor_sync(~0u, index, o);
        b2 = fmaxf(fmaxf(b2, other2), fminf(b1, other1));
        if (other1 > b1 || (other1 == b1 && other_index < index)) {
          b1 = other1;
          index = other_index;
        }
      }
      if (quarter == h && block * BLOCK_ROWS + in_block + 8 * h < n_rows) {
        mine = rows[h];
        float2 norm = norms[mine];
        float twice_error = by_norm * norm.x + by_error * norm.y + constant;
        b2 = fmaxf(b2, far_score(state, norm.x) + SCORE_BASE);
        labels[mine] = index;
#ifdef NO_CERTIFICATE
        twice_error = -1.f;
#endif
        open = !(b1 - b2 > twice_error);
        if (BOUNDS) {  // of an open row any centroid may be the label
          float rest = open ? fmaxf(b1, b2) : b2;
          keep_bounds(bounds, passed, mine, index, open,
                      distance_bounds(norm.x, b1 - SCORE_BASE, rest - SCORE_BASE, twice_error));
        }
      }
    }
    int place = warp_append(open, &state->n_open);
    if (open) open_rows[place] = mine;
#if PREFETCH
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
      for (int i = 0; i < 4; i++) a[k][i] = next[k][i];
#endif
  }
}
