// Ampere and later: the same tiles through cp.async, ldmatrix and mma.sync. Fragments lie as in wgmma (a warp owns 16
// rows), so the kernels above this layer do not change.
constexpr int STEPS = CHUNK / 16;
constexpr int SLABS = (CHUNK + 63) / 64;
constexpr int PART_BYTES = SLABS * TILE * 128;
constexpr int STAGE_BYTES = PART_BYTES * PARTS + 1024;
constexpr int COPY_BYTES = PART_BYTES * PARTS + TILE * 4;

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

struct Ring {
  u32 base, count;
  const u8* image;
  int per_pass, total;
  bool resident;

  __device__ __forceinline__ void fetch(u32 stage, u32 tile) {
    u32 to = base + stage * STAGE_BYTES;
    const u8* from = image + (i64)tile * STAGE_BYTES;
    for (int i = threadIdx.x * 16; i < COPY_BYTES; i += blockDim.x * 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + i), "l"(from + i) : "memory");
  }

  __device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

  __device__ __forceinline__ void start(u8* memory, const u8* image_, int per_pass_, int passes) {
    base = shared_address(memory);
    image = image_;
    per_pass = per_pass_;
    total = per_pass * passes;
    resident = per_pass <= STAGES;
    count = 0;
    int first = resident ? (total ? per_pass : 0) : STAGES - 1;
    for (int i = 0; i < first; i++) {
      if (i < total) fetch(i, i % per_pass);
      commit();
    }
    if (resident) asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
  }

  // every thread of the block comes here for every tile
  __device__ __forceinline__ u32 acquire(int v) {
    if (resident) return v * STAGE_BYTES;
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncthreads();  // the tile is there for all, and all are done with the stage refilled next
    int next = (int)count + STAGES - 1;
    if (next < total) fetch(next % STAGES, (v + STAGES - 1) % per_pass);
    commit();
    return (count % STAGES) * STAGE_BYTES;
  }

  __device__ __forceinline__ void release(int) { count++; }
};

__device__ __forceinline__ void multiply_begin() {}
__device__ __forceinline__ void multiply_end(float (&)[TILE / 2]) {}

__device__ __forceinline__ void multiply(float (&acc)[TILE / 2], const u32 (&a)[4], u32 address, int step, bool add) {
  int lane = threadIdx.x & 31, row = (lane >> 4) * 8 + (lane & 7);
  int chunk = 2 * (step & 3) + ((lane >> 3) & 1);
  u32 at = address + (step >> 2) * TILE * 128 + (row >> 3) * 1024 + (row & 7) * 128 + ((chunk ^ (row & 7)) << 4);
#pragma unroll
  for (int n = 0; n < TILE / 8; n += 2) {
    u32 b[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(at + n * 1024) : "memory");
#pragma unroll
    for (int m = 0; m < 2; m++) {
      float* d = acc + (n + m) * 4;
      if (!add) d[0] = d[1] = d[2] = d[3] = 0.f;
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[2 * m]), "r"(b[2 * m + 1]));
    }
  }
}
