// Hopper (sm_90a): centroid tiles arrive by bulk copy, rows of X are register operands of wgmma.
// The generator prepends wgmma_tile(), one m64 x TILE x k16 instruction.
//
//   TILE centroids a tile   CHUNK columns a tile   PARTS 1 (hi) or 2 (hi, lo)   STAGES ring depth   WARPGROUPS
constexpr int STEPS = CHUNK / 16;                   // k16 steps
constexpr int SLABS = (CHUNK + 63) / 64;            // 64 columns (128 bytes) wide
constexpr int PART_BYTES = SLABS * TILE * 128;
constexpr int STAGE_BYTES = PART_BYTES * PARTS + 1024;
constexpr int COPY_BYTES = PART_BYTES * PARTS + TILE * 4;  // the parts and the biases

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u32 barrier, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}

__device__ __forceinline__ void barrier_wait(u32 barrier, u32 phase) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra READY;\nbra AGAIN;\nREADY:\n}" ::"r"(barrier), "r"(phase) : "memory");
}

// A ring of stages. There is no producer warp (ptxas would give it a whole warpgroup's registers): the last warp that
// is done with a stage refills it. An image of at most STAGES tiles is fetched once and stays.
struct Ring {
  u32 base, full, count, done;
  u32* released;
  const u8* image;
  int per_pass, total;
  bool resident;

  __device__ __forceinline__ void fetch(u32 stage, u32 tile) {
    u32 barrier = full + 8 * stage;
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(COPY_BYTES) : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            base + stage * STAGE_BYTES), "l"(image + (i64)tile * STAGE_BYTES), "r"(COPY_BYTES), "r"(barrier)
        : "memory");
  }

  // per_pass tiles for each of `passes` blocks of rows
  __device__ __forceinline__ void start(u8* memory, const u8* image_, int per_pass_, int passes) {
    base = shared_address(memory);
    full = base + STAGES * STAGE_BYTES;
    released = (u32*)(memory + STAGES * STAGE_BYTES + 16 * STAGES);
    image = image_;
    per_pass = per_pass_;
    total = per_pass * passes;
    resident = per_pass <= STAGES;
    count = 0;
    if (threadIdx.x == 0) {
      for (int i = 0; i < STAGES; i++) {
        barrier_init(full + 8 * i, 1);
        released[i] = 0;
      }
      asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
      int first = resident ? (total ? per_pass : 0) : (total < STAGES ? total : STAGES);
      for (int i = 0; i < first; i++) fetch(i, i % per_pass);
    }
    __syncthreads();
  }

  // waits for tile v of this pass; returns its offset in shared memory
  __device__ __forceinline__ u32 acquire(int v) {
    u32 stage = resident ? v : count % STAGES;
    barrier_wait(full + 8 * stage, resident ? 0 : (count / STAGES) & 1);
    return stage * STAGE_BYTES;
  }

  __device__ __forceinline__ void release(int v) {
    __syncwarp();
    if ((threadIdx.x & 31) == 0 && !resident) {
      u32 stage = count % STAGES;
      __threadfence_block();
      if (atomicAdd(released + stage, 1) == WARPGROUPS * 4 - 1) {
        released[stage] = 0;
        __threadfence_block();
        if ((int)count + STAGES < total) fetch(stage, (v + STAGES) % per_pass);
      }
    }
    count++;
  }
};

// start address / 16, stride between groups of 8 rows 1024 bytes, 128-byte swizzle
__device__ __forceinline__ u64 tile_descriptor(u32 address) {
  return (u64)((address & 0x3FFFF) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}

__device__ __forceinline__ void multiply_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void multiply_end(float (&acc)[TILE / 2]) {
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < TILE / 2; i++) asm volatile("" : "+f"(acc[i])::"memory");
}

// acc (+)= a * tile, k16 step `step` of one part of the tile at `address`
__device__ __forceinline__ void multiply(float (&acc)[TILE / 2], const u32 (&a)[4], u32 address, int step, bool add) {
  u64 descriptor = tile_descriptor(address) + (((step >> 2) * TILE * 128 + (step & 3) * 32) >> 4);
  wgmma_tile(acc, a[0], a[1], a[2], a[3], descriptor, add);
}
