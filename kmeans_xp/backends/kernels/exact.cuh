// The exact sign of |x - b|^2 - |x - a|^2 = 2x.a - 2x.b + b.b - a.a: every product is a 106-bit integer times a power of
// two, added into a fixed-point number that spans all exponents. Limb i counts units of 2^(32 i - OFFSET).
//
//   ALONE   a thread works by itself, with limbs of its own
#if X_BITS == 64
constexpr int LIMBS = 138, OFFSET = 2176;
#else
constexpr int LIMBS = 26, OFFSET = 416;
#endif

__device__ __forceinline__ void limb_add(i64* limbs, int i, u32 value, bool negative) {
#ifdef ALONE
  limbs[i] += negative ? -(i64)value : (i64)value;
#else
  if (value) atomicAdd((u64*)limbs + i, negative ? (u64) - (i64)value : (u64)value);
#endif
}

// limbs += (+-) a * b * 2^shift
__device__ __forceinline__ void add_product(i64* limbs, double a, double b, int shift, bool minus) {
  u64 p = (u64)__double_as_longlong(a), q = (u64)__double_as_longlong(b);
  int ep = (int)(p >> 52) & 2047, eq = (int)(q >> 52) & 2047;
  u64 mp = (p & 0xfffffffffffffull) | (ep ? 1ull << 52 : 0), mq = (q & 0xfffffffffffffull) | (eq ? 1ull << 52 : 0);
  if (!mp || !mq) return;
  int at = (ep ? ep : 1) + (eq ? eq : 1) - 2150 + shift + OFFSET, i = at >> 5, o = at & 31;
  bool negative = ((p ^ q) >> 63) ^ minus;
  u64 low = mp * mq, high = __umul64hi(mp, mq);
  u64 l0 = low << o, l1 = (high << o) | (o ? low >> (64 - o) : 0), l2 = o ? high >> (64 - o) : 0;
  limb_add(limbs, i, (u32)l0, negative);
  limb_add(limbs, i + 1, (u32)(l0 >> 32), negative);
  limb_add(limbs, i + 2, (u32)l1, negative);
  limb_add(limbs, i + 3, (u32)(l1 >> 32), negative);
  limb_add(limbs, i + 4, (u32)l2, negative);
}

// limbs += the terms of one feature
__device__ __forceinline__ void add_terms(i64* limbs, double v, double a, double b) {
  add_product(limbs, v, a, 1, false);
  add_product(limbs, v, b, 1, true);
  add_product(limbs, b, b, 0, false);
  add_product(limbs, a, a, 0, true);
}

__device__ __forceinline__ int sign_of(const i64* limbs) {
  i64 carry = 0;
  bool nonzero = false;
  for (int i = 0; i < LIMBS; i++) {
    i64 v = limbs[i] + carry;
    nonzero |= (v & 0xffffffffll) != 0;
    carry = v >> 32;
  }
  return carry < 0 ? -1 : (carry > 0 || nonzero) ? 1 : 0;
}

#ifdef ALONE
// > 0: a is nearer. Values lie at distances of step_x and step_c.
__device__ __noinline__ int nearer_sign(const Centre* x, int step_x, const Centre* a, const Centre* b, int step_c,
                                        int D) {
  i64 limbs[LIMBS];
  for (int i = 0; i < LIMBS; i++) limbs[i] = 0;
  for (int d = 0; d < D; d++) add_terms(limbs, x[d * step_x], a[d * step_c], b[d * step_c]);
  return sign_of(limbs);
}
#else
// A whole warp; `limbs` are LIMBS words of this warp in shared memory. > 0: a is nearer.
__device__ __noinline__ int nearer_sign(i64* limbs, const Element* x, const Centre* a, const Centre* b, int D) {
  int lane = threadIdx.x & 31;
  for (int i = lane; i < LIMBS; i += 32) limbs[i] = 0;
  __syncwarp();
  for (int d = lane; d < D; d += 32) add_terms(limbs, to_double(x[d]), a[d], b[d]);
  __syncwarp();
  const int sign = sign_of(limbs);
  __syncwarp();
  return sign;
}
#endif
