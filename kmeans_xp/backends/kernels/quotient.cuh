// The correctly rounded quotient of two sums kept in levels (sums.cu). Plain C++: the tests also compile it for the host.
//
// A sum is sum_l levels[l * stride] 2^(exponent - 32 l).
#ifndef DEVICE
#define DEVICE __device__ __noinline__
#endif

struct Sum {
  const i64* levels;
  i64 stride;
  int n_levels, exponent;
};

// v * 2^e without a double rounding on the way up, whatever e
DEVICE double scaled(double v, int e) {
  while (e > 1000) v *= 1.0715086071862673e301, e -= 1000;    // 2^1000
  while (e < -1000) v *= 9.332636185032189e-302, e += 1000;   // 2^-1000
  union { u64 bits; double value; } power;
  power.bits = (u64)(1023 + e) << 52;
  return v * power.value;
}

// A float64 value of the sum, in units of 2^exponent, good to a few units in the last place however the levels cancel:
// the digits of the absolute value all have one sign.
DEVICE double approximate(const Sum& s) {
  i64 carry = 0;
  for (int l = s.n_levels - 1; l > 0; l--) carry = (s.levels[l * s.stride] + carry) >> 32;
  bool negative = s.levels[0] + carry < 0;
  double value = 0;
  carry = 0;
  for (int l = s.n_levels - 1; l >= 0; l--) {
    i64 v = (negative ? -s.levels[l * s.stride] : s.levels[l * s.stride]) + carry;
    double digit = l ? (double)(u32)v : (double)v;
    carry = v >> 32;
    value = value * 2.3283064365386963e-10 + digit;  // 2^-32
  }
  return negative ? -value : value;
}

// A target number is `mantissa * 2^exponent` on its own grid.
struct Grid {
  i64 mantissa;
  int exponent;
};

#if X_BITS == 64
constexpr int PRECISION = 53, LOWEST = -1074;
#else
constexpr int PRECISION = 24, LOWEST = -149;
#endif

// The value of the grid next to v (v > 0).
DEVICE Grid to_grid(double v, int shift) {  // v * 2^shift
  union { double value; u64 bits; } b;
  b.value = v;
  int e = (int)(b.bits >> 52) & 2047;
  u64 m = (b.bits & 0xfffffffffffffull) | (e ? 1ull << 52 : 0);
  if (!m) return {0, LOWEST};
  int exponent = (e ? e : 1) - 1075 + shift;
  while (!(m >> 52)) m <<= 1, exponent--;
  int cut = 53 - PRECISION;
  if (exponent + cut < LOWEST) cut = LOWEST - exponent;
  if (cut > 62) return {0, LOWEST};
  return {(i64)(m >> cut), exponent + cut};
}

DEVICE Grid above(Grid g) {
  g.mantissa++;
  if (g.mantissa >> PRECISION) g.mantissa >>= 1, g.exponent++;
  return g;
}

DEVICE Grid below(Grid g) {
  if (g.mantissa == (1ll << (PRECISION - 1)) && g.exponent > LOWEST) return {(1ll << PRECISION) - 1, g.exponent - 1};
  g.mantissa--;
  return g;
}

constexpr int WORDS = 112;

DEVICE void add_words(i64* words, int at, u64 low, u64 high, bool negative) {
  int i = at >> 5, o = at & 31;
  u64 l0 = low << o, l1 = (high << o) | (o ? low >> (64 - o) : 0), l2 = o ? high >> (64 - o) : 0;
  u32 part[5] = {(u32)l0, (u32)(l0 >> 32), (u32)l1, (u32)(l1 >> 32), (u32)l2};
  for (int j = 0; j < 5; j++)
    if (part[j] && i + j < WORDS) words[i + j] += negative ? -(i64)part[j] : (i64)part[j];
}

DEVICE void multiply_wide(u64 a, u64 b, u64* low, u64* high) {
  u64 al = (u32)a, ah = a >> 32, bl = (u32)b, bh = b >> 32;
  u64 ll = al * bl, lh = al * bh, hl = ah * bl, middle = (ll >> 32) + (u32)lh + (u32)hl;
  *low = a * b;
  *high = ah * bh + (lh >> 32) + (hl >> 32) + (middle >> 32);
}

// The sign of |numerator| - m 2^e denominator.
DEVICE int side(const Sum& num, bool negative, const Sum& den, u64 m, int e) {
  i64 words[WORDS];
  for (int i = 0; i < WORDS; i++) words[i] = 0;
  int lowest_num = num.exponent - 32 * (num.n_levels - 1), lowest_den = den.exponent - 32 * (den.n_levels - 1) + e;
  int base = lowest_num < lowest_den ? lowest_num : lowest_den;
  for (int l = 0; l < num.n_levels; l++) {
    i64 v = num.levels[l * num.stride];
    if (v) add_words(words, num.exponent - 32 * l - base, v < 0 ? -(u64)v : (u64)v, 0, (v < 0) != negative);
  }
  for (int l = 0; l < den.n_levels; l++) {
    i64 v = den.levels[l * den.stride];
    u64 low, high;
    multiply_wide(v < 0 ? -(u64)v : (u64)v, m, &low, &high);
    if (v) add_words(words, den.exponent - 32 * l + e - base, low, high, v > 0);
  }
  i64 carry = 0;
  bool nonzero = false;
  for (int i = 0; i < WORDS; i++) {
    i64 v = words[i] + carry;
    nonzero |= (v & 0xffffffffll) != 0;
    carry = v >> 32;
  }
  return carry < 0 ? -1 : (carry > 0 || nonzero) ? 1 : 0;
}

// rn(numerator / denominator), denominator > 0. The float64 quotient points at the place; exact comparisons with the
// midpoints beside it settle it.
DEVICE double rounded_quotient(const Sum& num, const Sum& den) {
  double n = approximate(num), d = approximate(den);
  if (n == 0) return 0;
  bool negative = n < 0;
  Grid g = to_grid((negative ? -n : n) / d, num.exponent - den.exponent);
  for (int step = 0; step < 16; step++) {
    Grid up = above(g);
    // midpoint of g and up: on the grid of g, up is g.mantissa + 1
    int s = side(num, negative, den, 2 * (u64)g.mantissa + 1, g.exponent - 1);
    if (s > 0 || (s == 0 && (g.mantissa & 1))) {
      g = up;
      continue;
    }
    if (g.mantissa == 0) break;
    Grid down = below(g);
    s = side(num, negative, den, 2 * (u64)down.mantissa + 1, down.exponent - 1);
    if (s > 0 || (s == 0 && !(g.mantissa & 1))) break;
    g = down;
  }
  double value = scaled((double)g.mantissa, g.exponent);
  return negative ? -value : value;
}
