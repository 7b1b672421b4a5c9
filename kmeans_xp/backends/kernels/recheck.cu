// Open rows again with hi + lo halves: hi*hi + lo*hi + hi*lo keeps about 22 bits of every product.
//
// A row is decided when the best score leads every other by more than 2E. Otherwise, if one other candidate is left, the
// pair goes to `pairs`, else the row goes to `full_rows`.
//
//   CHUNK, CHUNKED as in certify.cu
//
// `bounds` may be null; else the distance bounds of these rows are written anew.
#define NONE -3.0e38f

// The best two with their indices, and an upper bound of all other scores.
struct Best3 {
  float first, second, rest;
  int first_index, second_index;
};

__device__ __forceinline__ void insert(Best3& b, float value, int index) {
  if (value > b.first || (value == b.first && index < b.first_index)) {
    b.rest = fmaxf(b.rest, b.second);
    b.second = b.first;
    b.second_index = b.first_index;
    b.first = value;
    b.first_index = index;
  } else if (value > b.second) {
    b.rest = fmaxf(b.rest, b.second);
    b.second = value;
    b.second_index = index;
  } else {
    b.rest = fmaxf(b.rest, value);
  }
}

// Only the best of a lane's scores in a tile keeps its index; the second best joins `rest`.
__device__ __forceinline__ void fold(Best3 (&best)[2], const float (&score)[TILE / 2], const float* bias, int tile) {
  int quarter = threadIdx.x & 3;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float first = NONE, second = NONE;
    int index = 0;
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float v = score[n * 4 + h * 2 + e] + (CHUNKED ? bias[n * 8 + quarter * 2 + e] : 0.f);
        second = fmaxf(second, fminf(first, v));
        index = v > first ? n * 8 + e : index;
        first = fmaxf(first, v);
      }
    best[h].rest = fmaxf(best[h].rest, second);
    insert(best[h], first, tile * TILE + index + quarter * 2);
  }
}

__device__ __forceinline__ void multiply_parts(float (&acc)[TILE / 2], const u32 (&hi)[STEPS][4],
                                               const u32 (&lo)[STEPS][4], u32 address, bool add) {
  multiply_begin();
#pragma unroll
  for (int k = 0; k < STEPS; k++) {
    multiply(acc, hi[k], address, k, add || k > 0);
    multiply(acc, lo[k], address, k, true);
    multiply(acc, hi[k], address + PART_BYTES, k, true);
  }
  multiply_end(acc);
}

extern "C" __global__ void __launch_bounds__(WARPGROUPS * 128, BLOCKS_PER_SM)
    recheck(const u16* __restrict__ hi, const u16* __restrict__ lo, const u8* __restrict__ image, int n_tiles,
            int n_chunks, const float2* __restrict__ norms, State* __restrict__ state, float alpha,
            int* __restrict__ labels, const int* __restrict__ open_rows, int2* __restrict__ pairs,
            int* __restrict__ full_rows, float* __restrict__ bounds, const float* __restrict__ passed) {
  extern __shared__ __align__(1024) u8 memory[];
  if (state->skip) return;
  constexpr int BLOCK_ROWS = WARPGROUPS * 64;
  const int n_rows = state->n_open;
  const int lane = threadIdx.x & 31, quarter = lane & 3;
  const int in_block = (threadIdx.x >> 5) * 16 + (lane >> 2);
  const i64 stride = (i64)n_chunks * CHUNK;
  const int n_blocks = (n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
  const int passes = (int)blockIdx.x < n_blocks ? (n_blocks - 1 - (int)blockIdx.x) / (int)gridDim.x + 1 : 0;
  Ring ring;
  ring.start(memory, image, n_tiles * n_chunks, passes);

  // As in certify.cu, with |x - hi - lo| <= 2^-11 |x - hi| + tiny (2^-25 an element, where lo underflows), the product
  // lo*lo that is left out, and the bias -|c|^2/2 as one more addend of the accumulation.
  const float C = __uint_as_float(state->centre_norm), dc = __uint_as_float(state->centre_error);
  const float dc2 = __uint_as_float(state->centre_error2), u = alpha * 5.9604645e-8f;
  const float tiny = 2.9802322e-8f * sqrtf((float)stride);
  const float by_norm = 2.002f * (dc2 + 1.01f * u * C);
  const float by_error = 2.002f * ((C + dc2) * 4.8828125e-4f + 1.001f * (dc + dc2));
  const float constant = 2.002f * ((C + dc + dc2) * tiny * 2 + (u * 0.51f + 5.9604645e-8f) * C * C) + 1e-30f;

  for (int block = blockIdx.x; block < n_blocks; block += gridDim.x) {
    int rows[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int r = block * BLOCK_ROWS + in_block + 8 * h;
      rows[h] = open_rows[r < n_rows ? r : n_rows - 1];
    }
    u32 a[STEPS][4], al[STEPS][4];
#if !CHUNKED
    load_rows(a, hi + rows[0] * stride, hi + rows[1] * stride);
    load_rows(al, lo + rows[0] * stride, lo + rows[1] * stride);
#endif
    Best3 best[2] = {{NONE, NONE, NONE, 0, 0}, {NONE, NONE, NONE, 0, 0}};
    for (int tile = 0; tile < n_tiles; tile++) {
      float acc[TILE / 2];
#if CHUNKED
      float score[TILE / 2];
#pragma unroll
      for (int i = 0; i < TILE / 2; i++) score[i] = 0.f;
      for (int chunk = 0; chunk < n_chunks; chunk++) {
        i64 from = (i64)chunk * CHUNK;
        load_rows(a, hi + rows[0] * stride + from, hi + rows[1] * stride + from);
        load_rows(al, lo + rows[0] * stride + from, lo + rows[1] * stride + from);
        u32 at = ring.acquire(tile * n_chunks + chunk);
        multiply_parts(acc, a, al, ring.base + at, false);
#pragma unroll
        for (int i = 0; i < TILE / 2; i++) score[i] += acc[i];
        if (chunk == n_chunks - 1) fold(best, score, (const float*)(memory + at + PART_BYTES * 2), tile);
        ring.release(tile * n_chunks + chunk);
      }
#else
      u32 at = ring.acquire(tile);
      const float* bias = (const float*)(memory + at + PART_BYTES * 2);
#pragma unroll
      for (int n = 0; n < TILE / 8; n++) {
        float2 b = *(const float2*)(bias + n * 8 + quarter * 2);
        acc[n * 4] = acc[n * 4 + 2] = b.x;
        acc[n * 4 + 1] = acc[n * 4 + 3] = b.y;
      }
      multiply_parts(acc, a, al, ring.base + at, true);
      fold(best, acc, bias, tile);
      ring.release(tile);
#endif
    }
    bool open = false;
    int mine = -1, label;
    float size, leading, others, margin;  // what the bounds of a row are made of
#pragma unroll
    for (int h = 0; h < 2; h++) {
      Best3 b = best[h];
#pragma unroll
      for (int o = 1; o < 4; o <<= 1) {
        float first = __shfl_xor_sync(~0u, b.first, o), second = __shfl_xor_sync(~0u, b.second, o);
        float rest = __shfl_xor_sync(~0u, b.rest, o);
        int first_index = __shfl_xor_sync(~0u, b.first_index, o);
        int second_index = __shfl_xor_sync(~0u, b.second_index, o);
        b.rest = fmaxf(b.rest, rest);
        insert(b, first, first_index);
        insert(b, second, second_index);
      }
      if (quarter == h && block * BLOCK_ROWS + in_block + 8 * h < n_rows) {
        int r = rows[h];
        float2 norm = norms[r];
        float twice_error = by_norm * norm.x + by_error * norm.y + constant;
        b.rest = fmaxf(b.rest, far_score(state, norm.x));
        labels[r] = b.first_index;
#ifdef NO_CERTIFICATE
        twice_error = -1.f;
#endif
        float rest = fmaxf(b.second, b.rest);
        open = !(b.first - rest > twice_error);
        mine = r, label = b.first_index, size = norm.x, leading = b.first, others = open ? fmaxf(b.first, rest) : rest, margin = twice_error;
        if (open) {
          if (b.first - b.rest > twice_error)
            pairs[atomicAdd(&state->n_pair, 1)] = make_int2(r, b.second_index);
          else
            full_rows[atomicAdd(&state->n_full, 1)] = r;
        }
      }
    }
    if (bounds && mine >= 0)
      keep_bounds(bounds, passed, mine, label, open, distance_bounds(size, leading, others, margin));
  }
}
