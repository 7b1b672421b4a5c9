// CUDA C++ for the host: included before a kernel whose PTX has become calls of ptx:: (see translate.py).
#pragma once
#include <cfenv>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "machine.hpp"

#define __device__
#define __host__
#define __global__
#define __shared__ static
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __CUDA_ARCH__ 900

#define threadIdx (machine::machine_now->thread)
#define blockIdx machine::machine_block
#define blockDim machine::machine_block_dim
#define gridDim machine::machine_grid_dim
constexpr int warpSize = 32;

#define VECTOR2(T, name) \
  struct alignas(2 * sizeof(T)) name { T x, y; }; \
  inline name make_##name(T x, T y) { return {x, y}; }
#define VECTOR4(T, name) \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name { T x, y, z, w; }; \
  inline name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR2(int, int2)
VECTOR2(unsigned, uint2)
VECTOR2(float, float2)
VECTOR2(double, double2)
VECTOR2(long long, longlong2)
VECTOR4(int, int4)
VECTOR4(unsigned, uint4)
VECTOR4(float, float4)

// ---- numbers ---------------------------------------------------------------------------------------------------------
#define MIN_MAX(T) \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
MIN_MAX(int)
MIN_MAX(unsigned)
MIN_MAX(long long)
MIN_MAX(unsigned long long)
MIN_MAX(float)
MIN_MAX(double)

namespace machine {
template <class To, class From>
inline To bits_as(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  std::memcpy(&out, &v, sizeof out);
  return out;
}

// f(...) with another rounding; `volatile` keeps the compiler from rounding it itself
template <class T, class F>
inline T rounded(int mode, F f) {
  std::fesetround(mode);
  volatile T out = f();
  std::fesetround(FE_TONEAREST);
  return out;
}
}  // namespace machine

inline float __uint_as_float(unsigned v) { return machine::bits_as<float>(v); }
inline float __int_as_float(int v) { return machine::bits_as<float>(v); }
inline unsigned __float_as_uint(float v) { return machine::bits_as<unsigned>(v); }
inline int __float_as_int(float v) { return machine::bits_as<int>(v); }
inline double __longlong_as_double(long long v) { return machine::bits_as<double>(v); }
inline long long __double_as_longlong(double v) { return machine::bits_as<long long>(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }

#define ROUNDED(name, T, U, expression) \
  inline T name##_ru(U x, U y) { \
    volatile U a = x, b = y; \
    (void)b; \
    return machine::rounded<T>(FE_UPWARD, [&] { return expression; }); \
  } \
  inline T name##_rd(U x, U y) { \
    volatile U a = x, b = y; \
    (void)b; \
    return machine::rounded<T>(FE_DOWNWARD, [&] { return expression; }); \
  }
ROUNDED(__fmul, float, float, a* b)
ROUNDED(__fadd, float, float, a + b)
ROUNDED(__fsub, float, float, a - b)
ROUNDED(__fdiv, float, float, a / b)
ROUNDED(__dmul, double, double, a* b)
ROUNDED(__dadd, double, double, a + b)
ROUNDED(__dsub, double, double, a - b)
ROUNDED(machine_sqrt, float, float, std::sqrt((float)a))
ROUNDED(machine_narrow, float, double, (float)a)
inline float __fsqrt_ru(float a) { return machine_sqrt_ru(a, 0); }
inline float __fsqrt_rd(float a) { return machine_sqrt_rd(a, 0); }
inline float __double2float_ru(double a) { return machine_narrow_ru(a, 0); }
inline float __double2float_rd(double a) { return machine_narrow_rd(a, 0); }
// Out of line: these are never contracted.
__attribute__((noinline)) inline float __fadd_rn(float a, float b) { return a + b; }
__attribute__((noinline)) inline float __fmul_rn(float a, float b) { return a * b; }
__attribute__((noinline)) inline double __dadd_rn(double a, double b) { return a + b; }
__attribute__((noinline)) inline double __dsub_rn(double a, double b) { return a - b; }
__attribute__((noinline)) inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

// ---- memory ----------------------------------------------------------------------------------------------------------
template <class T>
inline T __ldcs(const T* p) {
  if ((std::uintptr_t)p % alignof(T)) machine::machine_fail("misaligned load");
  return *p;
}
template <class T>
inline T __ldg(const T* p) {
  return __ldcs(p);
}
inline std::size_t __cvta_generic_to_shared(const void* p) {
  return (const unsigned char*)p - machine::machine_shared + machine::SHARED;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

#define ATOMIC(name, expression) \
  template <class T, class U> \
  inline T name(T* p, U given) { \
    if ((std::uintptr_t)p % sizeof(T)) machine::machine_fail("misaligned atomic"); \
    T old = *p, value = (T)given; \
    *p = expression; \
    return old; \
  }
ATOMIC(atomicAdd, old + value)
ATOMIC(atomicSub, old - value)
ATOMIC(atomicMin, value < old ? value : old)
ATOMIC(atomicMax, value > old ? value : old)
ATOMIC(atomicExch, value)
ATOMIC(atomicAnd, old& value)
ATOMIC(atomicOr, old | value)
template <class T>
inline T atomicCAS(T* p, T expected, T value) {
  T old = *p;
  if (old == expected) *p = value;
  return old;
}

// ---- warps and blocks ------------------------------------------------------------------------------------------------
inline void __syncthreads() { machine::machine_meet_block("__syncthreads"); }

namespace machine {
inline void whole(unsigned mask) {
  if (mask != ~0u) machine_fail("a mask of some lanes: the emulation knows whole warps alone");
}

template <class T>
struct Lanes {
  const unsigned char* at;
  T operator[](int lane) const {
    T out;
    std::memcpy(&out, at + lane * SLOT, sizeof out);
    return out;
  }
};

template <class T>
inline Lanes<T> show(const char* what, const T& mine) {
  static_assert(sizeof(T) <= SLOT);
  return {machine_meet_warp(what, &mine, sizeof mine)};
}

template <class T, class F>
inline T reduced(const char* what, unsigned mask, T mine, F f) {
  whole(mask);
  auto lanes = show(what, mine);
  T out = lanes[0];
  for (int i = 1; i < 32; i++) out = f(out, lanes[i]);
  return out;
}
}  // namespace machine

inline void __syncwarp(unsigned mask = ~0u) {
  machine::whole(mask);
  machine::show("__syncwarp", 0);
}
template <class T>
inline T __shfl_sync(unsigned mask, T v, int from) {
  machine::whole(mask);
  return machine::show("__shfl_sync", v)[from & 31];
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int bits) {
  machine::whole(mask);
  return machine::show("__shfl_xor_sync", v)[machine::machine_now->lane ^ bits];
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned by) {
  machine::whole(mask);
  int lane = machine::machine_now->lane;
  return machine::show("__shfl_up_sync", v)[lane < (int)by ? lane : lane - by];
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned by) {
  machine::whole(mask);
  int lane = machine::machine_now->lane;
  return machine::show("__shfl_down_sync", v)[lane + (int)by > 31 ? lane : lane + by];
}
inline unsigned __ballot_sync(unsigned mask, bool v) {
  machine::whole(mask);
  auto lanes = machine::show("__ballot_sync", v);
  unsigned out = 0;
  for (int i = 0; i < 32; i++) out |= (unsigned)lanes[i] << i;
  return out;
}
inline bool __any_sync(unsigned mask, bool v) { return __ballot_sync(mask, v) != 0; }
inline bool __all_sync(unsigned mask, bool v) { return __ballot_sync(mask, v) == ~0u; }
inline int __reduce_add_sync(unsigned mask, int v) {
  return machine::reduced("__reduce_add_sync", mask, v, [](int a, int b) { return a + b; });
}
inline int __reduce_max_sync(unsigned mask, int v) {
  return machine::reduced("__reduce_max_sync", mask, v, [](int a, int b) { return a > b ? a : b; });
}
inline int __reduce_min_sync(unsigned mask, int v) {
  return machine::reduced("__reduce_min_sync", mask, v, [](int a, int b) { return a < b ? a : b; });
}

#include "ptx.hpp"

// ---- how the host calls a kernel -------------------------------------------------------------------------------------
namespace machine {
template <class... A, std::size_t... I>
inline void call(void (*f)(A...), void** given, std::index_sequence<I...>) {
  f(*(std::remove_const_t<A>*)given[I]...);
}

template <class T>
constexpr char kind = std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : 'i';

template <class... A>
inline const char* types(void (*)(A...)) {
  static const char text[] = {kind<A>..., 0};
  return text;
}
template <class... A>
inline const int* sizes(void (*)(A...)) {
  static const int all[] = {(int)sizeof(A)..., 0};
  return all;
}
template <class... A>
inline void start(void (*f)(A...), void** given) {
  call(f, given, std::index_sequence_for<A...>{});
}
}  // namespace machine

#define MACHINE_KERNEL(name, bound) \
  extern "C" void machine_run_##name(void** given) { machine::start(name, given); } \
  extern "C" const char* machine_types_##name() { return machine::types(name); } \
  extern "C" const int* machine_sizes_##name() { return machine::sizes(name); } \
  extern "C" int machine_bound_##name() { return bound; }
