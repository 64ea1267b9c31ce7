// Fibers: many stacks on one CPU thread. Each CUDA thread of a block lives on one, so that it
// can stop in the middle (at a barrier) and go on later. The sanitizers must be told of every
// switch, or they take one stack's accesses for another's.
#pragma once
#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#include <sys/mman.h>
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EMULATOR_SANITIZED 1
#endif

// For the emulator's own code: the sanitizers are to watch the kernels, not the scheduler.
#define EMULATOR \
  inline __attribute__((noinline, no_sanitize("thread"), no_sanitize("address"), no_sanitize("undefined")))

namespace emulator {

const size_t STACK_BYTES = 256 << 10;

struct Fiber {
  ucontext_t context;
  jmp_buf resume;
  char* stack;
  bool entered;   // has run before: `resume` is valid
  bool informed;  // ThreadSanitizer: has learnt of other fibers through a barrier
  void* asan_stack;
  void* tsan_fiber;
};

inline Fiber host;  // the scheduler's own stack
inline const void* host_stack;
inline size_t host_stack_bytes;

EMULATOR char* new_stack() {
#ifdef __SANITIZE_THREAD__
  const int kind = MAP_PRIVATE | MAP_ANONYMOUS;
  return (char*)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, kind, -1, 0);
#else
  return (char*)malloc(STACK_BYTES);
#endif
}

EMULATOR void prepare(Fiber& fiber, void (*body)()) {
  if (!fiber.stack) fiber.stack = new_stack();
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = STACK_BYTES;
  fiber.entered = false;
  makecontext(&fiber.context, body, 0);
}

EMULATOR void switch_fiber(Fiber& from, Fiber& to) {
#ifdef __SANITIZE_THREAD__
  // Going back to the scheduler creates no order between the threads of a block (flag 1).
  __tsan_switch_to_fiber(to.tsan_fiber, &to == &host ? 1 : 0);
#endif
#ifdef __SANITIZE_ADDRESS__
  const bool home = &to == &host;
  __sanitizer_start_switch_fiber(&from.asan_stack, home ? host_stack : to.stack,
                                 home ? host_stack_bytes : STACK_BYTES);
#endif
#ifdef EMULATOR_SANITIZED
  swapcontext(&from.context, &to.context);
#else
  // setjmp is thirty times faster than swapcontext, which makes a system call.
  if (!_setjmp(from.resume)) {
    if (to.entered) _longjmp(to.resume, 1);
    to.entered = true;
    setcontext(&to.context);
  }
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.asan_stack, nullptr, nullptr);
#endif
}

#ifdef __SANITIZE_THREAD__
// Make a fiber a new thread to ThreadSanitizer: one that knows of no other, on a new stack,
// since to the sanitizer the old stack holds another thread's unordered writes.
EMULATOR void forget(Fiber& fiber) {
  __tsan_destroy_fiber(fiber.tsan_fiber);
  munmap(fiber.stack, STACK_BYTES);
  fiber.tsan_fiber = nullptr;
  fiber.stack = nullptr;
  fiber.context.uc_stack.ss_sp = nullptr;
}
#endif

// The first thing that a fiber's body does.
EMULATOR void arrive_on_fiber() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_stack_bytes);
#endif
}

// ThreadSanitizer knows order only through these: what happens before `release` at an address
// happens before what comes after a later `acquire` of it.
EMULATOR void release(void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(address);
#else
  (void)address;
#endif
}
EMULATOR void acquire(void* address) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(address);
#else
  (void)address;
#endif
}

}  // namespace emulator
