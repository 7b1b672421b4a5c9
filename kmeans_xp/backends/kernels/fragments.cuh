// Rows of X as matrix operands, straight from global memory.
//
// Within each group of 32 columns the order is permuted so that a lane's operands for two k16 steps are 16 contiguous
// bytes; the image of the centroids has the same permutation (image_column in centroids.cu).
__device__ __forceinline__ uint4 load_once(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

// the two rows of this lane (the second is 8 below the first in the tile)
__device__ __forceinline__ void load_rows(u32 (&a)[STEPS][4], const u16* first, const u16* second) {
  int quarter = threadIdx.x & 3;
#pragma unroll
  for (int j = 0; j < CHUNK / 32; j++) {
    uint4 u = load_once(first + 32 * j + 8 * quarter), v = load_once(second + 32 * j + 8 * quarter);
    a[2 * j][0] = u.x;
    a[2 * j][1] = v.x;
    a[2 * j][2] = u.y;
    a[2 * j][3] = v.y;
    a[2 * j + 1][0] = u.z;
    a[2 * j + 1][1] = v.z;
    a[2 * j + 1][2] = u.w;
    a[2 * j + 1][3] = v.w;
  }
}

// An upper bound of |x - c_label| and a lower bound of the distance to every other centroid, from |x - c|^2 = |x|^2 - 2s:
// the score of the label is at least `best`, that of every other at most `rest`, both within twice_error / 2. 1.9e-6 covers
// the float32 roundings here and that `norm` is |x| rounded upwards.
__device__ __forceinline__ float2 distance_bounds(float norm, float best, float rest, float twice_error) {
  if (!(norm < 1e30f)) return make_float2(__uint_as_float(0x7f800000u), 0.f);
  float square = norm * norm, slack = twice_error + (square + fabsf(best) + fabsf(rest)) * 1.9e-6f;
  return make_float2(__fsqrt_ru(fmaxf(0.f, square - 2.f * best + slack)),
                     __fsqrt_rd(fmaxf(0.f, square - 2.f * rest - slack)));
}

// Keeps them as they are; or, where `passed` says how much of its margin a row of each cluster has lost so far, as the value
// of `passed` from which on they no longer settle the row: at once for one whose label is not settled yet.
__device__ __forceinline__ void keep_bounds(float* to, const float* passed, int row, int label, bool open, float2 bounds) {
  if (passed)
    to[row] = open ? __uint_as_float(0xff800000u) : __fadd_rd(__fsub_rd(bounds.y, bounds.x), passed[label]);
  else
    ((float2*)to)[row] = bounds;
}

// Upper bound of the score of every centroid that was left out of the image because |c| > far:
// x.c - |c|^2/2 <= |c| (|x| - |c|/2), which falls with |c| once |c| >= |x|.
__device__ __forceinline__ float far_score(const State* state, float row_norm) {
  float far = __uint_as_float(state->far_norm);
  return __fmul_ru(far, __fadd_ru(row_norm, -0.5f * far));
}
