// Lets g++ compile CUDA C++ kernels as they are: the language's keywords, variables and
// functions, on top of scheduler.h. What it does not know does not compile.
#pragma once
#include <math.h>
#include <cmath>
#include <type_traits>
#include "scheduler.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define threadIdx (::emulator::current->index)
#define blockIdx (::emulator::block_index)
#define blockDim (::emulator::block_size)
#define gridDim (::emulator::grid_size)
#define warpSize 32

// ---- barriers and warp operations --------------------------------------------------------
namespace emulator {
inline unsigned mask_or_all(unsigned mask = ~0u) { return mask; }

enum Direction { FROM, UP, DOWN, XOR };
template <class T>
T shuffle(Direction way, int line, unsigned mask, T value, int delta, int width = WARP) {
  const int lane = current->rank % WARP, first = lane & ~(width - 1);
  int source = way == FROM ? first + (delta & (width - 1))
               : way == UP ? lane - delta
               : way == DOWN ? lane + delta
                             : lane ^ delta;
  if (source < first || source >= first + width) source = lane;
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = warp_operation(mask, SHUFFLE, source, bits, line);
  memcpy(&value, &bits, sizeof value);
  return value;
}
}  // namespace emulator

#define __syncthreads() ::emulator::barrier(__LINE__)
#define __syncwarp(...) \
  (void)::emulator::warp_operation(::emulator::mask_or_all(__VA_ARGS__), ::emulator::SYNC, 0, 0, __LINE__)
#define __shfl_sync(mask, ...) ::emulator::shuffle(::emulator::FROM, __LINE__, mask, __VA_ARGS__)
#define __shfl_up_sync(mask, ...) ::emulator::shuffle(::emulator::UP, __LINE__, mask, __VA_ARGS__)
#define __shfl_down_sync(mask, ...) ::emulator::shuffle(::emulator::DOWN, __LINE__, mask, __VA_ARGS__)
#define __shfl_xor_sync(mask, ...) ::emulator::shuffle(::emulator::XOR, __LINE__, mask, __VA_ARGS__)
#define __ballot_sync(mask, predicate) \
  (unsigned)::emulator::warp_operation(mask, ::emulator::BALLOT, 0, !!(predicate), __LINE__)
#define __any_sync(mask, predicate) (__ballot_sync(mask, predicate) != 0)
#define __all_sync(mask, predicate) (__ballot_sync(mask, !(predicate)) == 0)
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- atomics -----------------------------------------------------------------------------
namespace emulator {
template <class T> struct Same { typedef T type; };  // an argument that T is not deduced from
template <class T, class Function> T read_modify_write(T* address, Function function) {
  typedef std::conditional_t<sizeof(T) == 8, uint64_t,
                             std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>> Bits;
  Bits seen = __atomic_load_n((Bits*)address, __ATOMIC_RELAXED), wanted;
  T before, after;
  do {
    memcpy(&before, &seen, sizeof before);
    after = function(before);
    memcpy(&wanted, &after, sizeof wanted);
  } while (!__atomic_compare_exchange_n((Bits*)address, &seen, wanted, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  return before;
}
}  // namespace emulator
#define EMULATOR_ATOMIC(name, expression)                                            \
  template <class T> T name(T* address, typename ::emulator::Same<T>::type value) {  \
    return ::emulator::read_modify_write(address, [value](T old) -> T { return expression; }); \
  }
EMULATOR_ATOMIC(atomicAdd, old + value)
EMULATOR_ATOMIC(atomicSub, old - value)
EMULATOR_ATOMIC(atomicExch, value)
EMULATOR_ATOMIC(atomicMin, old < value ? old : value)
EMULATOR_ATOMIC(atomicMax, old > value ? old : value)
EMULATOR_ATOMIC(atomicAnd, old & value)
EMULATOR_ATOMIC(atomicOr, old | value)
EMULATOR_ATOMIC(atomicXor, old ^ value)
template <class T>
T atomicCAS(T* address, typename emulator::Same<T>::type expected,
            typename emulator::Same<T>::type value) {
  return emulator::read_modify_write(
      address, [=](T old) -> T { return old == expected ? value : old; });
}

// ---- arithmetic --------------------------------------------------------------------------
template <class A, class B> std::common_type_t<A, B> min(A a, B b) { return a < b ? a : b; }
template <class A, class B> std::common_type_t<A, B> max(A a, B b) { return a > b ? a : b; }
template <class T> T __ldg(const T* address) { return *address; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float __int_as_float(int bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline int __float_as_int(float value) {
  int bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
