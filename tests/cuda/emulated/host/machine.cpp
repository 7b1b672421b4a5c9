// Fibers and their meetings. Compiled once; kernels find it when they are loaded.
#include "machine.hpp"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace machine {

using u64 = unsigned long long;

extern "C" {
Thread* machine_now;
Index machine_block, machine_block_dim, machine_grid_dim;
unsigned char* machine_shared;
unsigned machine_shared_size;
bool machine_late;
}

namespace {

constexpr std::size_t STACK = 256 << 10;
constexpr unsigned MOST_THREADS = 1024, MOST_SHARED = 227 << 10;
constexpr unsigned char RUBBISH = 0xF7;

enum State { READY, WARP, BLOCK, SPINS, DONE };

struct Fiber : Thread {
  jmp_buf at;
  ucontext_t first;
  bool begun;
  State state;
  unsigned awaited;
};

Fiber* fibers[MOST_THREADS];
Warp warps[MOST_THREADS / 32];
unsigned n_threads, n_done, block_meetings, block_arrived, events;
const char* block_what;
jmp_buf scheduler, failure;
ucontext_t outside;
char message[256];
void (*kernel)(void**);
void** arguments;

void run_thread() {
  for (;;) {
    kernel(arguments);
    Fiber* me = static_cast<Fiber*>(machine_now);
    if (me->open) machine_fail("a thread ends with copies that are not committed");
    machine_wait_groups(0);
    me->state = DONE;
    n_done++, events++;
    me->warp->alive--;
    if (me->warp->arrived) machine_fail("a thread ends while others of its warp wait for it");
    if (block_arrived) machine_fail("a thread ends while others wait for it at a barrier");
    if (!_setjmp(me->at)) _longjmp(scheduler, 1);
  }
}

Fiber* fiber(unsigned i) {
  if (!fibers[i]) {
    fibers[i] = new Fiber{};
    void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) abort();
    getcontext(&fibers[i]->first);
    // stacks at equal distances would share the places of a cache
    std::size_t skipped = i % 64 * 320;
    fibers[i]->first.uc_stack.ss_sp = static_cast<char*>(stack) + skipped / 16 * 16;
    fibers[i]->first.uc_stack.ss_size = STACK - 64 * 320;
    fibers[i]->first.uc_link = nullptr;
    makecontext(&fibers[i]->first, run_thread, 0);
  }
  return fibers[i];
}

void resume(Fiber* f) {
  machine_now = f;
  if (_setjmp(scheduler)) return;
  if (f->begun) _longjmp(f->at, 1);
  f->begun = true;
  setcontext(&f->first);
}

void leave(State state) {
  Fiber* me = static_cast<Fiber*>(machine_now);
  me->state = state;
  if (!_setjmp(me->at)) _longjmp(scheduler, 1);
  me->state = READY;
}

bool waits(const Fiber* f) {
  if (f->state == WARP) return f->warp->meetings == f->awaited;
  return f->state == DONE || (f->state == BLOCK && block_meetings == f->awaited);
}

void run_block(bool reversed) {
  n_done = block_meetings = block_arrived = 0;
  if (machine_shared_size) memset(machine_shared, RUBBISH, machine_shared_size);
  memset(warps, 0, sizeof(Warp) * ((n_threads + 31) / 32));
  for (unsigned i = 0; i < n_threads; i++) {
    Fiber* f = fiber(i);
    unsigned x = machine_block_dim.x, y = machine_block_dim.y;
    f->thread = {i % x, i / x % y, i / x / y};
    f->lane = i % 32;
    f->warp = &warps[i / 32];
    f->warp->alive++;
    f->state = READY;
    f->open = nullptr;
    f->n_groups = 0;
  }
  while (n_done < n_threads) {
    unsigned before = events;
    bool ran = false;
    for (unsigned w = 0; w < (n_threads + 31) / 32; w++) {
      unsigned first = 32 * (reversed ? (n_threads + 31) / 32 - 1 - w : w);
      unsigned count = n_threads - first < 32 ? n_threads - first : 32;
      for (bool again = true; again;) {
        again = false;
        for (unsigned l = 0; l < count; l++) {
          Fiber* f = fibers[first + (reversed ? count - 1 - l : l)];
          if (waits(f)) continue;
          resume(f);
          ran = true;
          again |= f->state == WARP;
        }
      }
    }
    if (!ran || events == before) {
      snprintf(message, sizeof message, "threads wait for each other for ever (%u of %u at %s)", block_arrived, n_threads,
               block_what ? block_what : "none");
      _longjmp(failure, 1);
    }
  }
}

void complete(Copy*& list) {
  while (list) {
    Copy* c = list;
    memcpy(c->to, c->from, c->size);
    list = c->next;
    delete c;
  }
}

}  // namespace

extern "C" {

void machine_fail(const char* what) {
  Index t = machine_now->thread, b = machine_block;
  snprintf(message, sizeof message, "%s (thread %u of block %u)", what, t.x, b.x);
  _longjmp(failure, 1);
}

void machine_meet_block(const char* what) {
  Fiber* me = static_cast<Fiber*>(machine_now);
  if (n_done) machine_fail("a barrier that some threads have left out");
  if (block_arrived && block_what != what && strcmp(block_what, what)) machine_fail("threads meet at different barriers");
  block_what = what;
  me->awaited = block_meetings;
  if (++block_arrived == n_threads) {
    block_arrived = 0;
    block_meetings++, events++;
  } else {
    leave(BLOCK);
  }
}

const unsigned char* machine_meet_warp(const char* what, const void* mine, std::size_t size) {
  Fiber* me = static_cast<Fiber*>(machine_now);
  Warp* warp = me->warp;
  if (warp->alive < 32) machine_fail("a lane that the mask names is not there");
  if (warp->arrived && warp->what != what && strcmp(warp->what, what)) machine_fail("the lanes of a warp meet at different instructions");
  warp->what = what;
  unsigned meeting = warp->meetings;
  memcpy(warp->slots[meeting & 1][me->lane], mine, size);
  if (++warp->arrived == 32) {
    warp->arrived = 0;
    warp->meetings++, events++;
  } else {
    me->awaited = meeting;
    leave(WARP);
  }
  return &warp->slots[meeting & 1][0][0];
}

void machine_spin() { leave(SPINS); }

void machine_copy(void* to, const void* from, unsigned size) {
  if (!machine_late) {
    memcpy(to, from, size);
    return;
  }
  machine_now->open = new Copy{to, from, size, machine_now->open};
}

void machine_commit() {
  Thread* me = machine_now;
  if (me->n_groups == 16) machine_fail("more than 16 groups of copies");
  me->groups[me->n_groups++] = me->open;
  me->open = nullptr;
}

void machine_wait_groups(int left) {
  Thread* me = machine_now;
  int n = me->n_groups > left ? me->n_groups - left : 0;
  for (int i = 0; i < n; i++) complete(me->groups[i]);
  me->n_groups -= n;
  for (int i = 0; i < me->n_groups; i++) me->groups[i] = me->groups[i + n];
}

void machine_widen(Sixteen& operand) {
  for (int i = 0; i < 16; i++) {
    _Float16 half;
    memcpy(&half, operand.half + i, 2);
    operand.value[i] = half;
    int e = operand.half[i] >> 10 & 31;
    if (e == 31) machine_fail("a half that is not finite in a tensor core");
    operand.exponent[i] = operand.half[i] & 0x7fff ? (e ? e : 1) - 15 : -1000;
  }
}

// acc + sum of 16 products as Hopper adds them: every addend is truncated towards zero at 2^(e - 25), e the largest
// exponent among them (those of products not normalised), and so is the sum at 24 bits. Measured on wgmma; mma.sync is
// taken to be alike.
float machine_add_products(float acc, const Sixteen& a, const Sixteen& b) {
  auto power = [](int e) {
    u64 bits = (u64)(1023 + e) << 52;
    double out;
    memcpy(&out, &bits, 8);
    return out;
  };
  int largest = -1000;
  for (int i = 0; i < 16; i++) {
    int e = a.exponent[i] + b.exponent[i];
    largest = e > largest ? e : largest;
  }
  if (largest < -500) return acc;  // only zeros
  unsigned bits;
  memcpy(&bits, &acc, 4);
  int own = (int)(bits >> 23 & 255) - 127;
  if (own == 128) machine_fail("an accumulator that is not finite");
  if (acc != 0 && own > largest) largest = own;
  const float scale = (float)power(25 - largest);
  int high[16];
  for (int i = 0; i < 16; i++) high[i] = (int)(a.value[i] * b.value[i] * scale);  // the products are exact
  long long sum = (long long)(acc * power(25 - largest));
  for (int i = 0; i < 16; i++) sum += high[i];
  u64 size = sum < 0 ? -(u64)sum : (u64)sum;
  if (size >> 24) {
    int cut = 40 - __builtin_clzll(size);
    size = size >> cut << cut;
  }
  return (float)((sum < 0 ? -1.0 : 1.0) * (double)size * power(largest - 25));
}

// Runs a grid; returns null or what went wrong. `order` 1: threads and blocks from the last to the first.
const char* machine_launch(void (*function)(void**), void** values, Index grid, Index block, unsigned shared, int order) {
  static bool ready = false;
  if (!ready) {
    machine_shared = static_cast<unsigned char*>(aligned_alloc(1024, MOST_SHARED));
    ready = true;
  }
  kernel = function, arguments = values;
  machine_grid_dim = grid, machine_block_dim = block;
  machine_shared_size = shared;
  machine_late = order & 1;
  n_threads = block.x * block.y * block.z;
  if (_setjmp(failure)) {  // the fibers are left where they are and never used again
    memset(fibers, 0, sizeof fibers);
    return message;
  }
  unsigned n_blocks = grid.x * grid.y * grid.z;
  for (unsigned i = 0; i < n_blocks; i++) {
    unsigned b = order ? n_blocks - 1 - i : i;
    machine_block = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    run_block(order);
  }
  return nullptr;
}
}

}  // namespace machine
