// out[64][TILE] = A[64][columns] * image, one chain of instructions, as in the certified pass.
extern "C" __global__ void __launch_bounds__(128)
    accumulate(const u16* __restrict__ A, const u8* __restrict__ image, float* __restrict__ out) {
  extern __shared__ __align__(1024) u8 memory[];
  const int lane = threadIdx.x & 31, row = (threadIdx.x >> 5) * 16 + (lane >> 2), quarter = lane & 3;
  A += (i64)blockIdx.x * 64 * CHUNK;
  Ring ring;
  ring.start(memory, image + (i64)blockIdx.x * STAGE_BYTES, 1, 1);
  u32 a[STEPS][4];
  load_rows(a, A + row * CHUNK, A + (row + 8) * CHUNK);
  float acc[TILE / 2];
  u32 at = ring.acquire(0);
  multiply_begin();
#pragma unroll
  for (int k = 0; k < STEPS; k++) multiply(acc, a[k], ring.base + at, k, k > 0);
  multiply_end(acc);
  ring.release(0);
  out += (i64)blockIdx.x * 64 * TILE;
#pragma unroll
  for (int n = 0; n < TILE / 8; n++)
    for (int h = 0; h < 2; h++)
      for (int e = 0; e < 2; e++) out[(row + 8 * h) * TILE + n * 8 + quarter * 2 + e] = acc[n * 4 + h * 2 + e];
}
