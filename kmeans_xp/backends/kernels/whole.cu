// Whole fits of tiny problems: a block of threads seeds a problem, runs its loop and rounds its inertia, then takes the
// next one. What float64 and pairs of it cannot decide is left: n_iter is -1, and somebody else fits that problem.
//
// A thread that could not decide something remembers that it is `bad` and goes on with what it has; all learn of it where
// a sum over the block comes out as NaN, so that no barrier is left out.
//
//   WEIGHTED   LEVELS: integers that a sum has   IN_SHARED: the rows are in shared memory   THREADS: at most
constexpr int GIVEN = 0, RANDOM = 1, PLUS_PLUS = 2;

__device__ __forceinline__ double nan_if(bool bad, double v) {
  return bad ? __longlong_as_double(0x7ff8000000000000ll) : v;
}

// Memory of a problem, piece by piece.
struct Memory {
  u8* at;
  template <class T>
  __device__ __forceinline__ T* take(i64 count) {
    T* const found = (T*)at;
    at += (count * (i64)sizeof(T) + 15) / 16 * 16;
    return found;
  }
};

// Copies the rows, feature by feature.
__device__ __forceinline__ void load_rows(const Problem& q, const Element* __restrict__ X, const double* __restrict__ w) {
  for (int i = threadIdx.x; i < q.n * q.d; i += blockDim.x) {
    const int row = i / q.d, j = i - row * q.d;
#if X_BITS == 16
    q.x[j * q.stride + row] = half_to_float(X[i]);
#else
    q.x[j * q.stride + row] = X[i];
#endif
  }
#if WEIGHTED
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) q.w[r] = w[r];
#endif
  __syncthreads();
}

// Whether weights are positive or zero, not huge and not far apart.
__device__ __forceinline__ bool weights_fit(const Problem& q, Scratch& s) {
#if WEIGHTED
  double largest = 0, least = __longlong_as_double(0x7ff0000000000000ll);
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) {
    const double w = q.w[r];
    largest = w > largest ? w : largest;
    least = w > 0 && w < least ? w : least;
  }
  largest = block_max(largest, s);
  least = -block_max(-least, s);
  return largest > 7.888609052210118e-31 && largest < 1.2676506002282294e30 &&  // 2^-100, 2^100
         least >= largest * 8.881784197001252e-16;                              // 2^-50
#else
  return true;
#endif
}

// Exponents of the sums, a warp a column; bounds of the mean variance, if it is asked for. NaN for values that are not
// taken: not finite, or outside the range that is proven.
__device__ __forceinline__ void survey(const Problem& q, bool variance, double& low, double& high, Scratch& s) {
  low = high = 0;
  bool bad = false;
  const int lane = threadIdx.x & 31;
  for (int j = threadIdx.x >> 5; j < q.width; j += n_warps()) {
    double total = 0, sum = 0, weighted = 0;
    for (int r = lane; r < q.n; r += 32) {
      const double v = j < q.d ? (double)q.at(r, j) : 1, size = fabs(v);
      bad |= size < SMALL && size != 0;
      total += size;
      sum += v;
      weighted += size * q.weight(r);
    }
    total = warp_sum(total), sum = warp_sum(sum), weighted = warp_sum(weighted);
    bad |= !(total < LARGE);
    if (lane == 0) q.exponents[j] = exponent_of(weighted);
    if (!variance || j == q.d) continue;
    const double mean = sum / q.n;
    double squares = 0;
    for (int r = lane; r < q.n; r += 32) squares += (q.at(r, j) - mean) * (q.at(r, j) - mean);
    squares = warp_sum(squares) / q.n;
    const double slack = squares * (q.n + 8) * 2 * UNIT, off = 2 * UNIT * (q.n + 4) * (total / q.n);
    if (lane == 0) {
      low += max(squares - slack - off * off, 0.0);
      high += squares + slack;
    }
  }
  const double relative = (q.d + 4 + n_warps()) * 2 * UNIT;
  low = block_sum(nan_if(bad, low), s) / q.d * (1 - relative);
  high = block_sum(nan_if(bad, high), s) / q.d * (1 + relative);
}

// low + v; where that has to be exact, NaN if it is not.
__device__ __forceinline__ double added(double low, double v, bool exactly) {
  if (!exactly) return low + v;
  double lost;
  const double sum = two_sum(low, v, lost);
  return nan_if(lost != 0, sum);
}

// Adds w (x - c_label)^2 over this thread's values to a pair.
__device__ __forceinline__ void add_squares(const Problem& q, double& high, double& low, bool exactly) {
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) {
    const Value* c = q.c + q.labels[r];
    for (int j = 0; j < q.d; j++) {
      double off, error;
      const double t = two_sum((double)q.at(r, j), -(double)c[j * q.places], off), square = __dmul_rn(t, t);
      double rest = nan_if(exactly && off != 0, __fma_rn(t, t, -square) + (2 * t * off + off * off));
#if WEIGHTED
      const double w = q.w[r], product = __dmul_rn(w, square), more = __dmul_rn(w, rest);
      rest = nan_if(exactly && __fma_rn(w, rest, -more) != 0, added(__fma_rn(w, square, -product), more, exactly));
      high = two_sum(high, product, error);
#else
      high = two_sum(high, square, error);
#endif
      low = added(low, added(error, rest, exactly), exactly);
    }
  }
}

// Σ w |x - c_label|^2 rounded once, NaN if that is not certain: of a pair that bounds it or, exactly, is it.
__device__ __forceinline__ double rounded_inertia(const Problem& q, bool exactly, Scratch& s) {
  double high = 0, low = 0, lost;
  add_squares(q, high, low, exactly);
  for (int o = 16; o; o >>= 1) {
    const double other = __shfl_xor_sync(~0u, high, o), rest = __shfl_xor_sync(~0u, low, o);
    high = two_sum(high, other, lost);
    low = added(low, added(rest, lost, exactly), exactly);
  }
  __syncthreads();
  if ((threadIdx.x & 31) == 0) s.slots[threadIdx.x >> 5] = high, s.more[threadIdx.x >> 5] = low;
  __syncthreads();
  high = s.slots[0], low = s.more[0];
  for (int i = 1; i < n_warps(); i++) {
    high = two_sum(high, s.slots[i], lost);
    low = added(low, added(s.more[i], lost, exactly), exactly);
  }
  high = two_sum(high, low, low);
  // low had at most as many parts as terms, each an ulp of the total, and each addition to it lost an ulp of it
  const double terms = (double)((q.n + blockDim.x - 1) / blockDim.x) * q.d + 64;
  const double error = exactly ? 0 : high * (terms * terms * 2.465190328815662e-32);  // 2^-105
  const double below = __dadd_rn(high, low - error), above = __dadd_rn(high, low + error);
  return nan_if(below != above, below);
}

__device__ __forceinline__ double inertia_of(const Problem& q, Scratch& s) {
  double value = 0;
  bool exactly = false;
  do {
    value = rounded_inertia(q, exactly, s);
    exactly = !exactly;
  } while (value != value && exactly);  // a tie can be told where nothing was rounded
  return value;
}

__device__ __forceinline__ void given_centroids(const Problem& q, const Value* __restrict__ given, bool& bad) {
  for (int i = threadIdx.x; i < q.k * q.d; i += blockDim.x) {
    const int k = i / q.d, j = i - k * q.d;
    const Value v = given[i] + (Value)0;
    const double size = fabs((double)v);
    bad |= size != 0 && !(size > SMALL && size < LARGE);
    q.c[j * q.places + k] = v;
  }
  __syncthreads();
}

struct Outcome {
  double inertia;  // NaN: undecided
  int n_iter;
  bool converged;
};

// The loop from the centroids of q, which move. Without any iteration: labels alone.
__device__ __forceinline__ Outcome loop(const Problem& q, int max_iter, double low, double high, Scratch& s, bool bad) {
  const double infinity = __longlong_as_double(0x7ff0000000000000ll);
  const double slack = ((double)q.k * q.d + 8) * 2 * UNIT;
  Outcome out = {infinity, 0, false};
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) q.labels[r] = -1;
  if (threadIdx.x == 0) s.n_moved = s.empty = 0;
  __syncthreads();
  for (bool over = max_iter == 0;;) {
    assign(q, s);
    if (over) break;
    __syncthreads();
    const int n_moved = s.n_moved;
    if (out.n_iter++ == 0 || 2 * n_moved > q.n)
      sum_anew(q, s, bad);
    else
      sum_moved(q, n_moved, bad);
    __syncthreads();
    for (int k = threadIdx.x; k < q.k; k += blockDim.x)
      if (q.counts[k] == 0) s.empty = 1;
    __syncthreads();
    const int lent = s.empty ? find_rows(q, s, bad) : 0;
    if (lent) lend(q, false, bad);
    double shift = move_centroids(q, bad);
    shift = block_sum(nan_if(bad, shift), s);
    if (shift != shift) return {shift, 0, false};
    for (int k = threadIdx.x; k < q.k; k += blockDim.x) q.touched[k] = 0;
    if (threadIdx.x == 0) s.n_moved = s.empty = 0;
    __syncthreads();
    if (lent) lend(q, true, bad);
    const bool still = n_moved == 0 && lent == 0;
    const bool within = shift == 0 || shift * (1 + slack) <= low;
    if (!within && !still && !(shift * (1 - slack) > high)) return {nan_if(true, 0), 0, false};
    out.converged = within || still;
    over = out.converged || out.n_iter >= max_iter;
    if (over && shift == 0) break;
  }
  __syncthreads();
  const double whole = block_sum(nan_if(bad, 0), s);
  out.inertia = whole != whole ? whole : max_iter ? inertia_of(q, s) : infinity;
  return out;
}

// How many labels there are. The whole block calls it.
__device__ __forceinline__ int distinct(const Problem& q, Scratch& s) {
  for (int k = threadIdx.x; k < q.k; k += blockDim.x) q.rows[k] = 0;
  __syncthreads();
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) q.rows[q.labels[r]] = 1;
  __syncthreads();
  double mine = 0;
  for (int k = threadIdx.x; k < q.k; k += blockDim.x) mine += q.rows[k];
  return (int)block_sum(mine, s);
}

// n_problems, those listed in `which`. Of each, `first` is its first row in X and w, `given` its centroids, `streams` the
// state of its random stream. Labels lie as the rows, centroids of a problem `most_clusters` apart.
extern "C" __global__ void __launch_bounds__(THREADS)
    fit_whole(const Element* __restrict__ X, const double* __restrict__ weights, const i64* __restrict__ first,
              const int* __restrict__ sizes, const int* __restrict__ n_clusters, const int* __restrict__ trials,
              const int* __restrict__ which, int n_problems, int* __restrict__ next, int D, int start,
              const Value* __restrict__ given, i64 given_step, const u64* __restrict__ streams, int n_init, int max_iter,
              double tol, u8* scratch, i64 scratch_step, int most_clusters, int* __restrict__ labels,
              Value* __restrict__ centroids, double* __restrict__ inertia, int* __restrict__ n_iter,
              int* __restrict__ converged, int* __restrict__ used) {
  extern __shared__ __align__(16) u8 memory[];
  __shared__ Scratch s;
  for (;;) {
    __syncthreads();
    if (threadIdx.x == 0) s.problem = atomicAdd(next, 1);
    __syncthreads();
    if (s.problem >= n_problems) return;
    const int b = which[s.problem];
    Problem q;
    q.n = sizes[b], q.d = D, q.k = n_clusters[b], q.width = D + WEIGHTED;
    q.stride = q.n | 1, q.places = (q.k + GROUP - 1) / GROUP * GROUP;
    Memory shared = {memory};
    q.sums = shared.take<i64>((i64)LEVELS * q.k * q.width);
    q.c = shared.take<Value>((i64)D * q.places);
    int* const of_clusters = shared.take<int>(4 * q.k + q.width);
    q.counts = of_clusters, q.cursor = q.counts + q.k, q.rows = q.cursor + q.k, q.touched = q.rows + q.k;
    q.exponents = q.touched + q.k;
#if IN_SHARED
    Memory& large = shared;
#else
    Memory large = {scratch + blockIdx.x * scratch_step};
#endif
    q.p = large.take<double>(q.n);
    q.w = large.take<double>(WEIGHTED ? q.n : 0);
    q.labels = large.take<int>(q.n);
    q.x = large.take<Value>((i64)D * q.stride);

    load_rows(q, X + first[b] * D, weights + (WEIGHTED ? first[b] : 0));
    for (int i = threadIdx.x; i < D * q.places; i += blockDim.x)
      if (i % q.places >= q.k) q.c[i] = (Value)__longlong_as_double(0x7ff0000000000000ll);
    const bool unfit = !weights_fit(q, s);
    double low, high;
    survey(q, tol > 0, low, high, s);
    bool bad = unfit || low != low;  // both the same in all threads
    low *= tol * (1 - 8 * UNIT), high *= tol * (1 + 8 * UNIT);
    Stream stream = {};
    if (start != GIVEN) {
      const u64* state = streams + 4 * (i64)b;
      stream = {state[0], state[1], state[2], state[3]};
    }
    Outcome best = {nan_if(true, 0), -1, false};
    for (int i = 0; i < n_init && !bad; i++) {
      bool open = false;
      if (start == GIVEN) given_centroids(q, given + b * given_step, open);
      if (start == PLUS_PLUS) plus_plus(q, trials[b], stream, s, open);
#if WEIGHTED
      if (start == RANDOM) weighted_rows(q, stream, s);
#else
      if (start == RANDOM) drawn_rows(q, stream);
#endif
      const Outcome found = loop(q, max_iter, low, high, s, open);
      bad = found.inertia != found.inertia;
      if (bad || (i && !(found.inertia < best.inertia))) continue;
      best = found;
      for (int r = threadIdx.x; r < q.n; r += blockDim.x) labels[first[b] + r] = q.labels[r];
      Value* const to = centroids + (i64)b * most_clusters * D;
      for (int e = threadIdx.x; e < q.k * D; e += blockDim.x) to[e] = q.c[e % D * q.places + e / D];
      const int count = distinct(q, s);
      if (threadIdx.x == 0) used[b] = count;
    }
    if (threadIdx.x) continue;
    inertia[b] = best.inertia, n_iter[b] = bad ? -1 : best.n_iter, converged[b] = best.converged;
  }
}
