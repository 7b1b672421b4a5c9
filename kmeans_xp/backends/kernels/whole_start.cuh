// The starts of docs/exactness.md for one problem, by one block.

// PCG64: the host gives the state before the first word.
struct Stream {
  u64 high, low, step_high, step_low;

  __device__ __forceinline__ u64 next() {
    const u64 high_factor = 0x2360ED051FC65DA4ull, low_factor = 0x4385DF649FCCF645ull;
    const u64 carried = __umul64hi(low, low_factor) + high * low_factor + low * high_factor;
    const u64 sum = low * low_factor + step_low;
    high = carried + step_high + (sum < step_low);
    low = sum;
    const u64 mixed = high ^ low;
    const int turn = (int)(high >> 58);
    return mixed >> turn | mixed << (-turn & 63);
  }
};

// rn12 of w |x_row - x_other|^2 where float64 alone cannot tell it; below zero if pairs cannot either.
__device__ __noinline__ double exact_potential(const Value* x, const Value* other, int step_x, int step_other, int d,
                                               double weight) {
  const Square s = square_distance(x, step_x, other, step_other, d);
  const double value = __dmul_rn(s.high, weight);
  if (!s.exact || s.low != 0 || __fma_rn(s.high, weight, -value) != 0) return -1;
  return rn12(value);
}

// min(old, rn12 of w |x_row - other|^2), given that square within (d + 4) 2^-53
__device__ __forceinline__ double potential(const Problem& q, int row, const Value* other, int step, double square,
                                            double weight, double old, bool& bad) {
  const double slack = (q.d + 8) * 2 * UNIT, value = square * weight;
  double low = rn12(value * (1 - slack));
  const double high = rn12(value * (1 + slack));
  if (low >= old) return old;
  if (low != high) {
    low = exact_potential(q.x + row, other, q.stride, step, q.d, weight);
    bad |= low < 0;
  }
  return low < old ? low : old;
}

// The first rows whose running sums of floor(p * scale) exceed word * total >> 64, for `count` words.
__device__ __forceinline__ void draw(const double* p, int n, double scale, Stream& stream, int count, Scratch& s) {
  const int each = (n + blockDim.x - 1) / blockDim.x, lo = min(n, (int)threadIdx.x * each), hi = min(n, lo + each);
  i64 mine = 0, total;
  for (int r = lo; r < hi; r++) mine += (i64)floor(p[r] * scale);
  const i64 before = block_prefix(mine, s, total);
  for (int t = 0; t < count; t++) {
    const i64 target = (i64)__umul64hi(stream.next(), (u64)total);
    if (target < before || target >= before + mine) continue;
    i64 running = before;
    int row = lo;
    for (; row < hi - 1; row++) {
      running += (i64)floor(p[row] * scale);
      if (running > target) break;
    }
    s.chosen[t] = row;
  }
  __syncthreads();
}

__device__ __forceinline__ void copy_row(const Problem& q, int row, int k) {
  for (int j = threadIdx.x; j < q.d; j += blockDim.x) q.c[j * q.places + k] = q.at(row, j) + (Value)0;
}

// What the potentials would sum to with each of the chosen rows, at most TOGETHER of them.
constexpr int TOGETHER = 4;

__device__ __forceinline__ void add_costs(const Problem& q, int first, int count, double scale, Scratch& s, bool& bad) {
  i64 cost[TOGETHER] = {};
  int row[TOGETHER];
  for (int t = 0; t < TOGETHER; t++) row[t] = s.chosen[first + min(t, count - 1)];
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) {
    double square[TOGETHER] = {};
    for (int j = 0; j < q.d; j++) {
      const double v = q.at(r, j);
#pragma unroll
      for (int t = 0; t < TOGETHER; t++) {
        const double off = v - (double)q.at(row[t], j);
        square[t] += off * off;
      }
    }
    const double old = q.p[r], weight = q.weight(r);
#pragma unroll
    for (int t = 0; t < TOGETHER; t++)
      if (t < count)
        cost[t] += (i64)floor(potential(q, r, q.x + row[t], q.stride, square[t], weight, old, bad) * scale);
  }
#pragma unroll
  for (int t = 0; t < TOGETHER; t++) {
    for (int o = 16; o; o >>= 1) cost[t] += __shfl_xor_sync(~0u, cost[t], o);
    if ((threadIdx.x & 31) == 0 && t < count) atomicAdd(s.costs + first + t, (u64)cost[t]);
  }
}

// Takes a row as a centre; the largest potential that is left.
__device__ __forceinline__ double take(const Problem& q, int row, Scratch& s, bool& bad) {
  double largest = 0;
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) {
    double square = 0;
    for (int j = 0; j < q.d; j++) {
      const double off = (double)q.at(r, j) - (double)q.at(row, j);
      square += off * off;
    }
    const double p = potential(q, r, q.x + row, q.stride, square, q.weight(r), q.p[r], bad);
    q.p[r] = p;
    largest = p > largest ? p : largest;
  }
  return block_max(largest, s);
}

__device__ __forceinline__ double largest_weight(const Problem& q, Scratch& s) {
  double largest = 0;
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) largest = q.weight(r) > largest ? q.weight(r) : largest;
  return block_max(largest, s);
}

// Draws one row: by weight, or all alike.
__device__ __forceinline__ void draw_first(const Problem& q, double scale, Stream& stream, Scratch& s) {
#if WEIGHTED
  draw(q.w, q.n, scale, stream, 1, s);
#else
  const u64 word = stream.next();
  if (threadIdx.x == 0) s.chosen[0] = (int)(__umul64hi(word, (u64)q.n << 30) >> 30);
  __syncthreads();
#endif
}

// Greedy k-means++.
__device__ __forceinline__ void plus_plus(const Problem& q, int trials, Stream& stream, Scratch& s, bool& bad) {
  double largest = 0, first = 1;
#if WEIGHTED
  first = power_of_two(31 - exponent_of(largest_weight(q, s)));
#endif
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) q.p[r] = __longlong_as_double(0x7ff0000000000000ll);
  __syncthreads();
  for (int k = 0; k < q.k; k++) {
    int best = 0;
    if (largest > 0) {
      const double scale = power_of_two(31 - exponent_of(largest));
      if (threadIdx.x < MOST_TRIALS) s.costs[threadIdx.x] = 0;
      draw(q.p, q.n, scale, stream, trials, s);
      for (int t = 0; t < trials; t += TOGETHER) add_costs(q, t, min(TOGETHER, trials - t), scale, s, bad);
      __syncthreads();
      for (int t = 1; t < trials; t++)
        if (s.costs[t] < s.costs[best]) best = t;
    } else {
      draw_first(q, first, stream, s);
    }
    const int row = s.chosen[best];
    copy_row(q, row, k);
    if (k + 1 < q.k) largest = take(q, row, s, bad);
    __syncthreads();
  }
}

// Rows drawn without replacement, all alike: `rows` has those that are gone, sorted.
__device__ __forceinline__ void drawn_rows(const Problem& q, Stream& stream) {
  for (int k = 0; k < q.k; k++) {
    const u64 word = stream.next();
    if (threadIdx.x) continue;
    int row = (int)(__umul64hi(word, (u64)(q.n - k) << 30) >> 30), at = 0;
    while (at < k && q.rows[at] <= row) row++, at++;
    for (int i = k; i > at; i--) q.rows[i] = q.rows[i - 1];
    q.rows[at] = q.cursor[k] = row;
  }
  __syncthreads();
  for (int k = 0; k < q.k; k++) copy_row(q, q.cursor[k], k);
  __syncthreads();
}

#if WEIGHTED
// Rows drawn without replacement in proportion to their weights, by integers that p keeps.
__device__ __forceinline__ void weighted_rows(const Problem& q, Stream& stream, Scratch& s) {
  const double scale = power_of_two(31 - exponent_of(largest_weight(q, s)));
  i64 left = 0, none;
  for (int r = threadIdx.x; r < q.n; r += blockDim.x) {
    q.p[r] = floor(q.w[r] * scale);
    left += (i64)q.p[r];
  }
  block_prefix(left, s, none);
  left = none;
  for (int k = 0; k < q.k; k++) {
    if (left == 0) {  // those that are left count equally
      for (int r = threadIdx.x; r < q.n; r += blockDim.x) q.p[r] = 1;
      __syncthreads();
      for (int i = threadIdx.x; i < k; i += blockDim.x) q.p[q.cursor[i]] = 0;
      left = q.n - k;
      __syncthreads();
    }
    draw(q.p, q.n, 1, stream, 1, s);
    const int row = s.chosen[0];
    left -= (i64)q.p[row];
    __syncthreads();
    if (threadIdx.x == 0) q.p[row] = 0, q.cursor[k] = row;
    copy_row(q, row, k);
    __syncthreads();
  }
}
#endif
