// Nearest centroids, every one certain, by a thread a row.

// Centroids compared at a time: two loads of 16 bytes.
constexpr int GROUP = 32 / sizeof(Value), LOADED = 16 / sizeof(Value);
struct alignas(16) Loaded {
  Value v[LOADED];
};
// Squares below may have met the underflow limit of float32.
constexpr double TINY = X_BITS == 64 ? 0.0 : 8.271806125530277e-25;  // 2^-80
constexpr double ROUNDOFF = X_BITS == 64 ? 2 * UNIT : 1.1920928955078125e-7;  // 2^-52, 2^-23

// The nearest of the centroids within `limit`.
__device__ __noinline__ int settle(const Value* x, const Value* c, int stride, int places, int n_clusters, int d,
                                   double limit) {
  int nearest = -1;
  Square least = {};
  for (int k = 0; k < n_clusters; k++) {
    double rough = 0;
    for (int j = 0; j < d; j++) {
      const double off = (double)x[j * stride] - (double)c[j * places + k];
      rough += off * off;
    }
    if (rough > limit * (1 + 9.313225746154785e-10)) continue;  // 2^-30
    const Square square = square_distance(x, stride, c + k, places, d);
    if (nearest < 0) {
      nearest = k, least = square;
      continue;
    }
    int sign = far_apart(square, least);
    if (sign == 2) sign = nearer_sign(x, stride, c + nearest, c + k, places, d);
    if (sign == -1) nearest = k, least = square;
  }
  return max(nearest, 0);
}

// Moves a row to its nearest centroid, which is noted in the list of moved rows.
__device__ __forceinline__ void label_row(const Problem& q, int row, double best, double second, int nearest,
                                          Scratch& s) {
  const double limit = best * (1 + 3 * (q.d + 8) * ROUNDOFF) + TINY;
  if (!(second > limit))
    nearest = settle(q.x + row, q.c, q.stride, q.places, q.k, q.d, limit * (1 + 9.5367431640625e-7));  // 2^-20
  const int before = q.labels[row];
  if (before == nearest) return;
  q.labels[row] = nearest;
  ((int2*)q.p)[atomicAdd(&s.n_moved, 1)] = make_int2(row, before);
}

// Labels of all rows; s.n_moved is zero before and the number of those that changed after a barrier.
__device__ __forceinline__ void assign(const Problem& q, Scratch& s) {
  const Value infinity = (Value)__longlong_as_double(0x7ff0000000000000ll);
  for (int r = threadIdx.x; r < q.n; r += 2 * blockDim.x) {
    const int other = r + (int)blockDim.x;
    const Value *xa = q.x + r, *xb = q.x + min(other, q.n - 1);
    Value best_a = infinity, best_b = infinity, second_a = infinity, second_b = infinity;
    int nearest_a = 0, nearest_b = 0;
    for (int k = 0; k < q.places; k += GROUP) {
      Value a[GROUP] = {}, b[GROUP] = {};
      const Value* c = q.c + k;
      for (int j = 0; j < q.d; j++) {
        const Value va = xa[j * q.stride], vb = xb[j * q.stride];
#pragma unroll
        for (int g = 0; g < GROUP; g += LOADED) {
          const Loaded m = *(const Loaded*)(c + j * q.places + g);
#pragma unroll
          for (int i = 0; i < LOADED; i++) {
            const Value ta = va - m.v[i], tb = vb - m.v[i];
            a[g + i] += ta * ta;
            b[g + i] += tb * tb;
          }
        }
      }
#pragma unroll
      for (int g = 0; g < GROUP; g++) {
        const bool nearer_a = a[g] < best_a, nearer_b = b[g] < best_b;
        second_a = nearer_a ? best_a : min(second_a, a[g]);
        second_b = nearer_b ? best_b : min(second_b, b[g]);
        nearest_a = nearer_a ? k + g : nearest_a;
        nearest_b = nearer_b ? k + g : nearest_b;
        best_a = nearer_a ? a[g] : best_a;
        best_b = nearer_b ? b[g] : best_b;
      }
    }
    label_row(q, r, best_a, second_a, nearest_a, s);
    if (other < q.n) label_row(q, other, best_b, second_b, nearest_b, s);
  }
}

// rn12 of |x - c|^2 of a row and its own centroid.
__device__ __forceinline__ double own_potential(const Problem& q, int row, bool& bad) {
  const Value* c = q.c + q.labels[row];
  double square = 0;
  for (int j = 0; j < q.d; j++) {
    const double off = (double)q.at(row, j) - (double)c[j * q.places];
    square += off * off;
  }
  return potential(q, row, c, q.places, square, 1, __longlong_as_double(0x7ff0000000000000ll), bad);
}
