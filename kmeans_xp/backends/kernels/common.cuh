// Shared by every kernel: element types, the state block and small helpers.
// Nothing is included, so that bare NVRTC compiles these files.
//
//   X_BITS  width of an element of X: 16, 32 or 64
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef X_BITS
#define X_BITS 32
#endif
#if X_BITS == 16
typedef u16 Element;  // the bits of a half
#elif X_BITS == 32
typedef float Element;
#else
typedef double Element;
#endif
#if X_BITS == 64
typedef double Centre;
#else
typedef float Centre;
#endif

// What the kernels of one iteration tell each other and, at the end, the host.
struct State {
  u32 centre_norm;     // largest |c| in the image, float bits, rounded up
  u32 centre_error;    // largest |c - hi|
  u32 centre_error2;   // largest |c - hi - lo|
  u32 far_norm;        // smallest |c| among the centroids left out of the image as too far
  int n_open;          // rows that the certified pass left open
  int n_pair;          // of those, rows with two candidates after the recheck
  int n_full;          // rows with more than two
  int n_tied;          // rows that needed an exact sign
  int n_changed;       // labels that differ from the previous assignment
  int n_todo;          // rows that the certified pass took because of bounds, where it keeps them
  int n_slow_means;    // means that float64 could not round with certainty
  int n_empty;         // clusters without weight
  int n_moved;         // coordinates of centroids that changed
  int skip;            // 1: a speculated iteration that must do nothing
  int iteration;
  int delta;           // 1: the sums were updated by the rows that moved
  double shift;        // sum of |c_new - c_old|^2 in scaled units
  int listed;          // 1: the certified pass takes the listed rows alone, the bounds settle the others
  int padding[13];
};

// Survives from one iteration to the next.
struct Control {
  int hold;       // the last iteration left empty clusters: a speculated one must wait
  int known;      // the bounds of the rows are right for the centroids of the last iteration
  int iteration;
  int padding;
};

__device__ __forceinline__ float half_to_float(u16 h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}

__device__ __forceinline__ u16 float_to_half(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}

__device__ __forceinline__ double to_double(u16 h) { return half_to_float(h); }
__device__ __forceinline__ double to_double(float f) { return f; }
__device__ __forceinline__ double to_double(double d) { return d; }

// 2^e for -1022 <= e <= 1023
__device__ __forceinline__ double power_of_two(int e) {
  return __longlong_as_double((i64)(1023 + e) << 52);
}

// An upper bound, in float, of a norm computed in float64.
__device__ __forceinline__ float norm_above(double v) {
  return __double2float_ru(v * (1 + 1e-9));
}

__device__ __forceinline__ double warp_sum(double v) {
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
  return v;
}

__device__ __forceinline__ double warp_max(double v) {
  for (int o = 16; o; o >>= 1) {
    double w = __shfl_xor_sync(~0u, v, o);
    v = w > v ? w : v;
  }
  return v;
}

// Appends one item for every lane with `wanted`; returns this lane's place. The whole warp calls it.
__device__ __forceinline__ int warp_append(bool wanted, int* counter) {
  u32 mask = __ballot_sync(~0u, wanted);
  if (!mask) return 0;
  int lane = threadIdx.x & 31, first = 0;
  if (lane == 0) first = atomicAdd(counter, __popc(mask));
  first = __shfl_sync(~0u, first, 0);
  return first + __popc(mask & ((1u << lane) - 1));
}
