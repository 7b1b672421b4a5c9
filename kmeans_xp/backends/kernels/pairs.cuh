// Error-free arithmetic: pairs of float64 whose sum is known to about 100 bits. T. J. Dekker, Numer. Math. 18 (1971);
// T. Ogita, S. M. Rump, S. Oishi, SIAM J. Sci. Comput. 26 (2005). Intrinsics keep products from being contracted.
//
// Values are read at distances of `step`, so that a row may lie feature by feature.
constexpr double UNIT = 1.1102230246251565e-16;  // 2^-53
constexpr double PAIR = 2.5849394142282115e-26;  // 2^-85: relative error of a pair that holds up to 2^16 squares

__device__ __forceinline__ double two_sum(double a, double b, double& error) {
  const double total = __dadd_rn(a, b), part = __dsub_rn(total, a);
  error = __dadd_rn(__dsub_rn(a, __dsub_rn(total, part)), __dsub_rn(b, part));
  return total;
}

// A normal value, or zero, to 12 significant bits, ties to even.
__device__ __forceinline__ double rn12(double v) {
  const i64 bits = __double_as_longlong(v);
  return __longlong_as_double((bits + ((1ll << 40) - 1) + (bits >> 41 & 1)) & ~((1ll << 41) - 1));
}

struct Square {
  double high, low;
  bool exact;
};

// |a - b|^2
template <class A, class B>
__device__ __forceinline__ Square square_distance(const A* a, int step_a, const B* b, int step_b, int d) {
  double high = 0, low = 0;
  bool exact = true;
  for (int j = 0; j < d; j++) {
    double off, error, lost, more;
    const double t = two_sum((double)a[j * step_a], -(double)b[j * step_b], off);
    const double square = __dmul_rn(t, t);
    double rest = __fma_rn(t, t, -square);
    if (off != 0) {
      rest += 2 * t * off + off * off;
      exact = false;
    }
    high = two_sum(high, square, error);
    error = two_sum(error, rest, lost);
    low = two_sum(low, error, more);
    exact = exact && lost == 0 && more == 0;
  }
  double left;
  high = two_sum(high, low, left);
  return {high, left, exact};
}

// The sign of a - b; 2 where it is not known.
__device__ __forceinline__ int far_apart(const Square& a, const Square& b) {
  const double difference = (a.high - b.high) + (a.low - b.low);
  if (a.exact && b.exact && a.high == b.high && a.low == b.low) return 0;
  if (fabs(difference) <= PAIR * (a.high + b.high)) return 2;
  return difference > 0 ? 1 : -1;
}
