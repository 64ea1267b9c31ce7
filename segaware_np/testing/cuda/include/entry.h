// The way in from Python: each kernel's parameter types, and launches. A plain build is a
// library; a sanitizer build is a program that reads one launch from stdin and writes the
// arrays to stdout, since the sanitizers want to own their process.
#pragma once
#include "cuda_emulator.h"
#include "cuda_fp16.h"

namespace emulator {

// A parameter as text: NumPy's kind and size, after it '*' for a pointer, '!' for a const one.
template <class T> constexpr char kind() {
  if (std::is_same<T, bool>::value) return 'b';
  if (std::is_floating_point<T>::value || std::is_same<T, __half>::value) return 'f';
  if (std::is_integral<T>::value || std::is_enum<T>::value) return std::is_signed<T>::value ? 'i' : 'u';
  return 'V';  // a struct, passed by value
}
template <class T> void describe(char*& text) {
  typedef std::remove_pointer_t<T> E;
  text += sprintf(text, "%c%d%s%s ", kind<std::remove_cv_t<E>>(), (int)sizeof(E),
                  std::is_pointer<T>::value ? "*" : "",
                  std::is_pointer<T>::value && std::is_const<E>::value ? "!" : "");
}

template <auto F> struct Kernel;
template <class... P, void (*F)(P...)> struct Kernel<F> {
  template <size_t... I> static void call(void** values, std::index_sequence<I...>) {
    F(*(std::remove_cv_t<P>*)values[I]...);
  }
  static void call(void** values) { call(values, std::index_sequence_for<P...>()); }
  static void signature(char* text) {
    *text = 0;
    (describe<std::remove_cv_t<P>>(text), ...);
  }
};

struct Entry { void (*call)(void**); void (*signature)(char*); };

// A launch in numbers: kernel, grid, block, bytes of dynamic shared memory, seed, arguments.
struct Request { uint64_t kernel, grid[3], block[3], shared_bytes, seed, arguments; };

EMULATOR const char* run(const Entry* table, const Request& r, void** values) {
  return launch(table[r.kernel].call, values, dim3(r.grid[0], r.grid[1], r.grid[2]),
                dim3(r.block[0], r.block[1], r.block[2]), r.shared_bytes, r.seed);
}

#ifdef EMULATOR_SANITIZED
EMULATOR void read_exactly(void* target, size_t bytes) {
  if (bytes && fread(target, bytes, 1, stdin) != 1) exit(90);
}

// Arguments come as (kind, bytes, data): 0 is a value, 1 an array, 2 + j the array of argument j.
EMULATOR int serve(const Entry* table) {
  Request r;
  read_exactly(&r, sizeof r);
  uint64_t head[128][2];
  void *memory[128], *values[128];
  for (uint64_t i = 0; i < r.arguments; ++i) {
    read_exactly(head[i], sizeof head[i]);
    if (head[i][0] >= 2) {
      memory[i] = memory[head[i][0] - 2];
    } else {
      memory[i] = malloc(head[i][1]);  // exactly as large: the sanitizer guards both ends
      read_exactly(memory[i], head[i][1]);
    }
    values[i] = head[i][0] ? (void*)&memory[i] : memory[i];
  }
  const char* failure = run(table, r, values);
  if (*failure) {
    fprintf(stderr, "emulator: %s\n", failure);
    _Exit(91);
  }
  for (uint64_t i = 0; i < r.arguments; ++i)
    if (head[i][0] == 1 && head[i][1]) fwrite(memory[i], head[i][1], 1, stdout);
  fflush(stdout);
  _Exit(0);
}
#endif

}  // namespace emulator
