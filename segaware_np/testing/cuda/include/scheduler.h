// The scheduler: runs a grid block by block in a random order and, inside a block, switches
// between threads at barriers and warp operations only, again in a random order. Every choice
// follows from the launch's seed, so a failure can be repeated. Code that is right for every
// order of blocks and threads does not notice; code that leans on one does.
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <utility>
#include "fibers.h"
#ifdef __SANITIZE_THREAD__
#include <sys/mman.h>
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulator {

const int MAX_THREADS = 1024, WARP = 32, MIN_FIBERS = 128;
const size_t MAX_SHARED_BYTES = 48 << 10;

enum State { UNBORN, RUNNING, AT_BARRIER, AT_WARP, ENDED };
enum WarpKind { SHUFFLE, BALLOT, SYNC };

struct Thread {
  uint3 index;
  int rank;  // flat index in the block
  State state;
  int line;  // of the barrier or warp operation where it waits
  struct { WarpKind kind; unsigned mask; int source; uint64_t in, out; } warp;
  Fiber* fiber;
};

inline Thread threads[MAX_THREADS];
inline Thread* current;  // null while the scheduler runs
inline Fiber fibers[MAX_THREADS];
inline Fiber* idle[MAX_THREADS];
inline Thread* ready[MAX_THREADS];
inline int birth[MAX_THREADS];  // the order in which threads start
inline int thread_count, born, ended, ready_count, idle_count;
inline dim3 grid_size, block_size;
inline uint3 block_index;
inline void (*kernel)(void**);
inline void** arguments;
inline char error[512];
inline uint64_t random_state;
inline char barrier_sync, warp_sync[MAX_THREADS / WARP], launch_sync;  // addresses only

EMULATOR uint64_t random_below(uint64_t limit) {  // xorshift
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (random_state >> 11) % limit;
}

EMULATOR void fail(const char* what, int line = 0) {
  if (*error) return;  // the first error counts
  const uint3 t = current ? current->index : uint3{0, 0, 0};
  snprintf(error, sizeof error, "%s (line %d, block %u,%u,%u, thread %u,%u,%u)", what, line,
           block_index.x, block_index.y, block_index.z, t.x, t.y, t.z);
  release(&launch_sync);
}

// ---- what a thread does ------------------------------------------------------------------
EMULATOR void wait(State state, int line) {
  Thread* self = current;
  self->state = state;
  self->line = line;
  switch_fiber(*self->fiber, host);
  current = self;
}

EMULATOR void barrier(int line) {
  current->fiber->informed = true;
  release(&barrier_sync);
  wait(AT_BARRIER, line);
  acquire(&barrier_sync);
}

EMULATOR uint64_t warp_operation(unsigned mask, WarpKind kind, int source, uint64_t in, int line) {
  const int rank = current->rank;
  if (!(mask >> rank % WARP & 1))
    fail("warp operation: the calling lane is not in its own mask", line);
  current->warp = {kind, mask, source, in, 0};
  if (kind == SYNC) {  // only __syncwarp orders memory
    current->fiber->informed = true;
    release(&warp_sync[rank / WARP]);
  }
  wait(AT_WARP, line);
  if (kind == SYNC) acquire(&warp_sync[rank / WARP]);
  return current->warp.out;
}

EMULATOR void fiber_body() {
  arrive_on_fiber();
  for (;;) {
    kernel(arguments);
    Fiber* fiber = current->fiber;
    current->state = ENDED;
    ++ended;
#ifndef __SANITIZE_THREAD__
    // Kernels without barriers never need to switch: go straight on with the next thread.
    if (born < thread_count && !ready_count && !*error) {
      current = &threads[birth[born++]];
      current->state = RUNNING;
      current->fiber = fiber;
      continue;
    }
#endif
    release(&launch_sync);
    idle[idle_count++] = fiber;
    switch_fiber(*fiber, host);
  }
}

// ---- what the scheduler does -------------------------------------------------------------
EMULATOR bool in_mask(unsigned mask, int rank) {
  return rank < thread_count && mask >> rank % WARP & 1;
}

// If all lanes of the thread's mask are here: exchange their values and let them go on.
EMULATOR void try_warp(const Thread& thread) {
  const int first = thread.rank / WARP * WARP;
  const unsigned mask = thread.warp.mask;
  unsigned ballot = 0;
  for (int rank = first; rank < first + WARP; ++rank) {
    const Thread& lane = threads[rank];
    if (!in_mask(mask, rank) || lane.state == ENDED) continue;
    if (lane.state != AT_WARP) return;
    if (lane.warp.mask != mask || lane.line != thread.line) {
      current = &threads[thread.rank];
      return fail("warp operation: lanes of one mask are at different operations", thread.line);
    }
    if (lane.warp.in) ballot |= 1u << rank % WARP;
  }
  for (int rank = first; rank < first + WARP; ++rank) {
    Thread& lane = threads[rank];
    if (!in_mask(mask, rank) || lane.state != AT_WARP) continue;
    const int source = first + lane.warp.source;
    const bool there = in_mask(mask, source) && threads[source].state != ENDED;
    // Reading a lane that is not there is undefined on a GPU: all ones here, a NaN.
    lane.warp.out = lane.warp.kind == BALLOT ? ballot : there ? threads[source].warp.in : ~0ull;
  }
  for (int rank = first; rank < first + WARP; ++rank)
    if (in_mask(mask, rank) && threads[rank].state == AT_WARP) {
      threads[rank].state = RUNNING;
      ready[ready_count++] = &threads[rank];
    }
}

// Nobody can run: either all threads are at one barrier, or this is a deadlock.
EMULATOR void open_barrier() {
  for (int i = 0; i < thread_count; ++i) {
    const Thread& thread = threads[i];
    if (thread.state == AT_BARRIER && thread.line == threads[0].line) continue;
    current = &threads[i];
    return fail(thread.state == ENDED     ? "__syncthreads: this thread ended while others wait"
                : thread.state == AT_WARP ? "warp operation: waits for lanes that never come"
                                          : "__syncthreads: threads are at different barriers",
                thread.line);
  }
  for (int i = 0; i < thread_count; ++i) {
    threads[i].state = RUNNING;
    ready[ready_count++] = &threads[i];
  }
}

EMULATOR Fiber* take_fiber() {
#ifdef __SANITIZE_THREAD__
  // Creating a fiber costs ThreadSanitizer 0.6 ms. One that has learnt of no other thread may
  // serve another thread; the rest are made anew, lest an old order hide a new race.
  std::swap(idle[random_below(idle_count)], idle[idle_count - 1]);
  Fiber& fiber = *idle[idle_count - 1];
  if (fiber.informed && fiber.tsan_fiber) forget(fiber);
  if (!fiber.tsan_fiber) fiber.tsan_fiber = __tsan_create_fiber(0);
  fiber.informed = false;
#endif
  Fiber* taken = idle[--idle_count];
  if (!taken->context.uc_stack.ss_sp) prepare(*taken, fiber_body);
  return taken;
}

// Who runs next: a ready thread, or one that has not started (null). Half of the blocks are
// unfair: they favour one warp over another as long as they can, so that some run far ahead.
EMULATOR Thread* choose(unsigned favour) {
  const bool can_start = born < thread_count;
  int choice = random_below(ready_count + can_start);
  if (favour && ready_count && !(can_start && random_below(2))) {
    auto rank = [favour](Thread* t) { return (t->rank / WARP ^ favour) % 37; };
    choice = 0;
    for (int i = 1; i < ready_count; ++i)
      if (rank(ready[i]) > rank(ready[choice])) choice = i;
  }
  if (choice == ready_count) return nullptr;
  Thread* chosen = ready[choice];
  ready[choice] = ready[--ready_count];
  return chosen;
}

EMULATOR void run_block() {
  thread_count = block_size.x * block_size.y * block_size.z;
  born = ended = ready_count = 0;
  const unsigned favour = random_below(2) ? 0 : 1 + random_below(1 << 20);
  for (int i = 0; i < thread_count; ++i) {
    const unsigned x = i % block_size.x, y = i / block_size.x % block_size.y;
    threads[i] = Thread();
    threads[i].index = {x, y, i / (block_size.x * block_size.y)};
    threads[i].rank = birth[i] = i;
    std::swap(birth[i], birth[random_below(i + 1)]);
  }
  while (ended < thread_count && !*error) {
    if (!ready_count && born == thread_count) {
      open_barrier();
      continue;
    }
    current = choose(favour);
    if (!current) {
      current = &threads[birth[born++]];
      current->state = RUNNING;
      current->fiber = take_fiber();
    }
    switch_fiber(host, *current->fiber);
    if (current->state == AT_WARP) try_warp(*current);
  }
}

// ---- shared memory: fresh for each block, filled with NaN --------------------------------
struct Shared { void *key, *memory; };
inline Shared shared_arrays[64];
inline int shared_count;
inline size_t shared_bytes;
inline char *dynamic_shared, *shared_page;

EMULATOR void* allocate_shared(size_t bytes) {
  shared_bytes += bytes;
  if (shared_bytes > MAX_SHARED_BYTES) {
    fail("more than 48 KiB of shared memory");
    bytes = 0;
  }
  void* memory = nullptr;
#ifdef __SANITIZE_THREAD__  // from pages of this block only: no accesses are remembered there
  memory = shared_page;
  shared_page += (bytes + 15) / 16 * 16;
#else
#ifndef __SANITIZE_ADDRESS__
  bytes += 64;  // reads past the end find the filling, too
#endif
  if (posix_memalign(&memory, 16, bytes ? bytes : 1)) abort();
  memset(memory, 0xff, bytes);
#endif
  return memory;
}

EMULATOR void* shared_at(void* key, size_t bytes) {
  for (int i = 0; i < shared_count; ++i)
    if (shared_arrays[i].key == key) return shared_arrays[i].memory;
  shared_arrays[shared_count] = {key, allocate_shared(bytes)};
  return shared_arrays[shared_count++].memory;
}

// `__shared__ T name;` on line LINE becomes `auto& name = shared<T, LINE>();`
template <class T, int LINE> EMULATOR T& shared() {
  static char key;
  return *(T*)shared_at(&key, sizeof(T));
}

// ---- a launch ----------------------------------------------------------------------------
EMULATOR void run_block_with_memory(size_t dynamic_bytes) {
  shared_bytes = shared_count = 0;
#ifdef __SANITIZE_THREAD__
  const size_t bytes = 2 * MAX_SHARED_BYTES;
  char* page = shared_page = (char*)mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(page, 0xff, bytes);
#endif
  dynamic_shared = (char*)allocate_shared(dynamic_bytes);
  if (!*error) run_block();
#ifdef __SANITIZE_THREAD__
  munmap(page, bytes);
#else
  free(dynamic_shared);
  for (int i = 0; i < shared_count; ++i) free(shared_arrays[i].memory);
#endif
}

EMULATOR uint64_t greatest_common_divisor(uint64_t a, uint64_t b) {
  while (b) std::swap(a %= b, b);
  return a;
}

// Returns "" or what went wrong.
EMULATOR const char* launch(void (*function)(void**), void** values, dim3 grid, dim3 block,
                            size_t dynamic_bytes, uint64_t seed) {
  kernel = function, arguments = values, grid_size = grid, block_size = block;
  *error = 0, current = nullptr, block_index = {0, 0, 0};
  random_state = seed * 0x9E3779B97F4A7C15ull + 0x1234567;
  random_below(2);
  const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
  const uint64_t count = (uint64_t)block.x * block.y * block.z;
  if (!blocks || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) fail("invalid grid");
  if (!count || count > (uint64_t)MAX_THREADS || block.z > 64) fail("invalid block");
  if (*error) return error;

  idle_count = 0;
  for (int i = count > (uint64_t)MIN_FIBERS ? count : MIN_FIBERS; i-- > 0;) {
    idle[idle_count++] = &fibers[i];
    fibers[i].context.uc_stack.ss_sp = nullptr;  // start afresh: the last launch may have failed
  }
  host.entered = true;
#ifdef __SANITIZE_THREAD__
  host.tsan_fiber = __tsan_get_current_fiber();
#endif
  // A random start and a random stride coprime to the number of blocks visit each once.
  uint64_t stride = random_below(blocks) | 1, at = random_below(blocks);
  if (greatest_common_divisor(blocks, stride) != 1) stride = 1;
  for (uint64_t i = 0; i < blocks && !*error; ++i, at = (at + stride) % blocks) {
    block_index = {unsigned(at % grid.x), unsigned(at / grid.x % grid.y),
                   unsigned(at / grid.x / grid.y)};
    run_block_with_memory(dynamic_bytes);
  }
  acquire(&launch_sync);
  return error;
}

}  // namespace emulator
