// PTX instructions as functions. A name is the opcode with dots and colons as underscores; operands come in PTX's order,
// lists in braces as arrays of pointers.
#pragma once

namespace ptx {
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;
using machine::machine_fail;
using machine::shared_at;

template <class T, std::size_t N>
struct List {
  T* at[N];
  T* operator[](std::size_t i) const { return at[i]; }
  operator List<const T, N>() const {
    List<const T, N> out;
    for (std::size_t i = 0; i < N; i++) out.at[i] = at[i];
    return out;
  }
};

template <class T, class... Others>
inline List<T, 1 + sizeof...(Others)> list(T* first, Others*... others) {
  return {{first, others...}};
}

// ---- numbers ---------------------------------------------------------------------------------------------------------
inline float widened(u16 h) { return machine::bits_as<_Float16>(h); }
inline void cvt_f32_f16(float& to, u16 from) { to = widened(from); }
inline void cvt_rn_f16_f32(u16& to, float from) { to = machine::bits_as<u16>((_Float16)from); }
inline void mad_lo_u32(u32& to, u32 a, u32 b, u32 c) { to = a * b + c; }
template <class T>
inline void setp_ne_b32(bool& p, T a, int b) {
  p = a != (T)b;
}

// ---- memory ----------------------------------------------------------------------------------------------------------
inline void ld_global_nc_L1__no_allocate_v4_u32(const List<u32, 4>& to, const void* from) {
  if ((std::uintptr_t)from % 16) machine_fail("misaligned load of 16 bytes");
  for (int i = 0; i < 4; i++) *to[i] = ((const u32*)from)[i];
}

inline void cp_async_cg_shared_global(u32 to, const void* from, int size) {
  if (size != 16 || (std::uintptr_t)from % 16) machine_fail("cp.async of other than 16 aligned bytes");
  machine::machine_copy(shared_at(to, size, 16), from, size);
}
inline void cp_async_commit_group() { machine::machine_commit(); }
inline void cp_async_wait_group(int left) { machine::machine_wait_groups(left); }

// A barrier in shared memory that counts arrivals and bytes.
struct Barrier {
  unsigned char count, pending, phase, known;
  int bytes;
  void settle() {
    if (pending || bytes) return;
    phase ^= 1;
    pending = count;
  }
};
inline Barrier& barrier_at(u32 address) {
  auto& found = *(Barrier*)shared_at(address, 8, 8);
  if (found.known != 0xB1) machine_fail("a barrier that was never begun");
  return found;
}
inline void mbarrier_init_shared__cta_b64(u32 at, u32 count) {
  *(Barrier*)shared_at(at, 8, 8) = {(unsigned char)count, (unsigned char)count, 0, 0xB1, 0};
}
inline void mbarrier_arrive_expect_tx_shared__cta_b64(u32 at, u32 bytes) {
  Barrier& b = barrier_at(at);
  if (!b.pending) machine_fail("more arrivals than a barrier counts");
  b.pending--;
  b.bytes += bytes;
  b.settle();
}
// Waits: kernels repeat it until it succeeds.
inline void mbarrier_try_wait_parity_shared__cta_b64(bool& done, u32 at, u32 parity) {
  while ((barrier_at(at).phase & 1) == parity) machine::machine_spin();
  done = true;
}
inline void cp_async_bulk_shared__cluster_global_mbarrier__complete_tx__bytes(u32 to, const void* from, u32 size,
                                                                              u32 barrier) {
  if (size % 16 || (std::uintptr_t)from % 16) machine_fail("a bulk copy of other than aligned multiples of 16 bytes");
  std::memcpy(shared_at(to, size, 16), from, size);
  Barrier& b = barrier_at(barrier);
  b.bytes -= size;
  b.settle();
}
inline void fence_mbarrier_init_release_cluster() {}
inline void fence_proxy_async_shared__cta() {}

// ---- tensor cores ----------------------------------------------------------------------------------------------------
using machine::Sixteen;
using machine::machine_add_products;

struct Fragment {
  u32 a[4];
};

// Rows lane/4 and lane/4 + 8 of the 16 x 16 operand that a warp holds in registers.
inline void operand_rows(const char* what, const List<const u32, 4>& a, Sixteen (&rows)[2]) {
  auto lanes = machine::show(what, Fragment{{*a[0], *a[1], *a[2], *a[3]}});
  for (int q = 0; q < 4; q++) {
    Fragment f = lanes[(machine::machine_now->lane & ~3) + q];
    for (int i = 0; i < 4; i++)
      for (int e = 0; e < 2; e++) rows[i & 1].half[2 * q + 8 * (i >> 1) + e] = (u16)(f.a[i] >> 16 * e);
  }
  for (Sixteen& row : rows) machine::machine_widen(row);
}

inline void ldmatrix_sync_aligned_m8n8_x4_shared_b16(const List<u32, 4>& to, u32 row) {
  auto rows = machine::show("ldmatrix", row);
  int lane = machine::machine_now->lane;
  for (int i = 0; i < 4; i++) std::memcpy(to[i], shared_at(rows[8 * i + lane / 4], 16, 16) + 4 * (lane & 3), 4);
}

inline void mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32(const List<float, 4>& d, const List<const u32, 4>& a,
                                                              const List<const u32, 2>& b, const List<float, 4>& c) {
  Sixteen rows[2], column;
  operand_rows("mma a", a, rows);
  struct Pair {
    u32 b[2];
  };
  auto lanes = machine::show("mma b", Pair{{*b[0], *b[1]}});
  int first = 2 * (machine::machine_now->lane & 3);
  for (int e = 0; e < 2; e++) {  // columns `first` and the next: those of lanes 4 * column + q
    for (int q = 0; q < 4; q++) {
      Pair p = lanes[4 * (first + e) + q];
      for (int i = 0; i < 4; i++) column.half[2 * q + 8 * (i >> 1) + (i & 1)] = (u16)(p.b[i >> 1] >> 16 * (i & 1));
    }
    machine::machine_widen(column);
    for (int h = 0; h < 2; h++) *d[2 * h + e] = machine_add_products(*c[2 * h + e], rows[h], column);
  }
}

inline void wgmma_fence_sync_aligned() { machine::show("wgmma.fence", 0); }
inline void wgmma_commit_group_sync_aligned() {}
inline void wgmma_wait_group_sync_aligned(int) { machine::show("wgmma.wait_group", 0); }

// The second operand lies in shared memory in the 128-byte swizzle, groups of 8 rows apart by the descriptor's stride.
template <std::size_t N>
inline void wgmma_mma_async_sync_aligned_m64nNk16_f32_f16_f16(const List<float, N>& d, const List<const u32, 4>& a,
                                                              u64 descriptor, bool add, int, int, int) {
  if (descriptor >> 62 != 1) machine_fail("a swizzle other than that of 128 bytes");
  const u32 start = (u32)(descriptor & 0x3fff) << 4, stride = (u32)(descriptor >> 32 & 0x3fff) << 4;
  Sixteen rows[2], column;
  operand_rows("wgmma", a, rows);
  int first = 2 * (machine::machine_now->lane & 3);
  for (std::size_t n = 0; n < N / 4; n++)
    for (int e = 0; e < 2; e++) {
      u32 line = start + (u32)n * stride + (first + e) * 128;
      for (int half = 0; half < 2; half++) {
        u32 at = line + 16 * half;
        std::memcpy(column.half + 8 * half, shared_at(at ^ ((at >> 7 & 7) << 4), 16, 16), 16);
      }
      machine::machine_widen(column);
      for (int h = 0; h < 2; h++) {
        float& to = *d[4 * n + 2 * h + e];
        to = machine_add_products(add ? to : 0.f, rows[h], column);
      }
    }
}
}  // namespace ptx
