// The machine that runs kernels on the host: what kernels compiled for it may call.
//
// A block is a set of fibers, one a thread; blocks follow each other. A thread runs until it has to wait for others, so
// nothing is ever truly concurrent: see CONTRIBUTING.md for what that proves and what it does not.
#pragma once
#include <cstddef>
#include <cstdint>

namespace machine {

struct Index {
  unsigned x, y, z;
};

constexpr int SLOT = 32;          // bytes a lane shows to its warp at a time
constexpr unsigned SHARED = 1024;  // shared addresses begin here, as on the device

struct Warp {
  unsigned meetings, arrived, alive;
  const char* what;
  alignas(16) unsigned char slots[2][32][SLOT];
};

struct Copy {  // one that has not been waited for
  void* to;
  const void* from;
  unsigned size;
  Copy* next;
};

struct Thread {
  Index thread;
  int lane;
  Warp* warp;
  Copy* open;       // copies since the last commit
  Copy* groups[16];  // committed ones, the oldest first
  int n_groups;
};

// An operand of the tensor core: 16 halves, their values and their exponents (-1000 for zero).
struct Sixteen {
  unsigned short half[16];
  float value[16];
  int exponent[16];
};

extern "C" {
extern Thread* machine_now;
extern Index machine_block, machine_block_dim, machine_grid_dim;
extern unsigned char* machine_shared;
extern unsigned machine_shared_size;
extern bool machine_late;  // copies are made as late as they may be, else at once

[[noreturn]] void machine_fail(const char* what);
void machine_meet_block(const char* what);
// Shows `size` bytes to the warp; returns what lane i shows at [i * SLOT], until the next meeting.
const unsigned char* machine_meet_warp(const char* what, const void* mine, std::size_t size);
void machine_spin();
void machine_copy(void* to, const void* from, unsigned size);
void machine_commit();
void machine_wait_groups(int left);
void machine_widen(Sixteen& operand);
float machine_add_products(float acc, const Sixteen& a, const Sixteen& b);
}

// Address in shared memory, as kernels hold it in 32 bits.
inline unsigned char* shared_at(unsigned address, unsigned size, unsigned alignment) {
  if (address < SHARED || address + size > SHARED + machine_shared_size) machine_fail("shared memory out of bounds");
  if (address % alignment) machine_fail("misaligned address in shared memory");
  return machine_shared + (address - SHARED);
}

}  // namespace machine
