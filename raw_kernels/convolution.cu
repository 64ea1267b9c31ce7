// Segmentation-aware convolution as an implicit matrix product: no columns in memory.
//
//   y[n,o,p] = bias[o] + sum_{k,c} weight[o,c,k] * mask[n,k,p] * x[n,c,p+delta_k]
//
// It is the product of a (outputs x K*channels) matrix of weights and a (K*channels x windows)
// matrix of masked columns, cut into tiles of TILE_O outputs by TILE_P windows. A block makes
// one tile: it walks along the common axis STEP channels at a time, and writes each STEP of
// both matrices to shared memory, where all threads read it several times:
//
//             TILE_P windows
//           +---------------+        Each thread owns a share of the tile, which it keeps in
//      STEP |    columns    |        registers. The offset k is the outer loop, so that a
//           +---------------+        thread looks up its window's neighbour and mask weight
//   STEP                             once for all channels.
//  +-----+  +---------------+
//  |  w  |  |       y       | TILE_O outputs
//  +-----+  +---------------+
#include "common.cuh"

constexpr int TILE_P = 128;  // windows of a tile, and threads of a block: each brings a column
constexpr int STEP = 8;      // channels (for float16 on tensor cores: pairs) brought at a time
constexpr int PAD = 8;       // after each row in shared memory: keeps its banks apart

// ---- the product of one STEP, by every thread for itself -------------------------------
template <typename A, int TILE_O> struct Threads {
  static constexpr int TILE = TILE_O;
  static constexpr int OUTPUTS = 8;                   // outputs of a thread
  static constexpr int ROWS = TILE_O / OUTPUTS;       // threads down a tile
  static constexpr int COLS = TILE_P / ROWS;          // threads across it
  static constexpr int WINDOWS = TILE_P / COLS;       // windows of a thread ...
  static constexpr int RUN = WINDOWS < 4 ? WINDOWS : 4;  // ... in runs of neighbours (one load)

  // The widest tile has no registers left for the factors of all STEP rows at once.
  static constexpr int UNROLLED = WINDOWS == 8 ? STEP / 2 : STEP;

  // What lies in shared memory: words, each made of one or more channels.
  typedef A Word;
  static constexpr int CHANNELS = 1;
  template <typename T> __device__ static Word weight(const T (&values)[1]) {
    return widen(values[0]);
  }
  template <typename T> __device__ static Word product(T factor, const T* values) {
    return widen(factor) * widen(values[0]);
  }
  template <typename T> __device__ static Word value(const T* values) { return widen(values[0]); }

  A sum[OUTPUTS][WINDOWS] = {};

  __device__ static int output(int o) { return threadIdx.x / COLS * OUTPUTS + o; }
  __device__ static int place(int w) {
    return (w / RUN * COLS + threadIdx.x % COLS) * RUN + w % RUN;
  }
  __device__ void add(const A (&weights)[STEP][TILE_O + PAD],
                      const A (&columns)[STEP][TILE_P + PAD]) {
#pragma unroll UNROLLED
    for (int j = 0; j < STEP; ++j) {
      A left[OUTPUTS], right[WINDOWS];
#pragma unroll
      for (int o = 0; o < OUTPUTS; ++o) left[o] = weights[j][output(o)];
#pragma unroll
      for (int w = 0; w < WINDOWS; ++w) right[w] = columns[j][place(w)];
#pragma unroll
      for (int o = 0; o < OUTPUTS; ++o)
#pragma unroll
        for (int w = 0; w < WINDOWS; ++w) sum[o][w] += left[o] * right[w];
    }
  }
  template <typename Function> __device__ void for_each(Function write) const {
#pragma unroll
    for (int o = 0; o < OUTPUTS; ++o)
#pragma unroll
      for (int w = 0; w < WINDOWS; ++w) write(output(o), place(w), sum[o][w]);
  }
  template <typename Function> __device__ static void for_each_place(Function visit) {
#pragma unroll 1
    for (int i = 0; i < OUTPUTS * WINDOWS; ++i) visit(output(i / WINDOWS), place(i % WINDOWS));
  }
};

// ---- the same by tensor cores: the 32 threads of a warp multiply together ----------------
// Factors are TF32 numbers (10 bits of mantissa), one channel in a word, or float16, two channels
// in a word; sums are float32. The matrices lie spread over the lanes: with g = lane / 4 and
// t = lane % 4, a lane holds the words
//   left  16x8  (g, t) (g+8, t) (g, t+4) (g+8, t+4)      right 8x8  (t, g) (t+4, g)
// and of the sum 16x8  (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
typedef unsigned Word;

// sum += left right, of words that hold TF32 numbers (T float) or two of float16.
template <typename T>
__device__ __forceinline__ void multiply_together(float (&sum)[4], const Word (&left)[4],
                                                  const Word (&right)[2]) {
#if !defined(__CUDA_ARCH__)  // the emulator: what the instructions do, in so many words
  const unsigned all = 0xffffffffu;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  auto dot = [](Word a, Word b) {
    float sum = 0;
    if (sizeof(T) == sizeof(Word)) a &= ~0x1fff, b &= ~0x1fff;  // all that TF32 holds
    for (int i = 0; i < sizeof(Word) / sizeof(T); ++i)
      sum += widen(((const T*)&a)[i]) * widen(((const T*)&b)[i]);
    return sum;
  };
  for (int k = 0; k < 8; ++k) {
    const int high = k / 4, from = k % 4;
    const Word upper = __shfl_sync(all, left[2 * high], g * 4 + from);
    const Word lower = __shfl_sync(all, left[2 * high + 1], g * 4 + from);
    const Word even = __shfl_sync(all, right[high], 2 * t * 4 + from);
    const Word odd = __shfl_sync(all, right[high], (2 * t + 1) * 4 + from);
    sum[0] += dot(upper, even), sum[1] += dot(upper, odd);
    sum[2] += dot(lower, even), sum[3] += dot(lower, odd);
  }
#elif __CUDA_ARCH__ >= 800
#define MULTIPLY(kind)                                                                     \
  asm volatile("mma.sync.aligned." kind " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, " \
               "{%0, %1, %2, %3};"                                                         \
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                    \
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]),    \
                 "r"(right[1]))
  if (sizeof(T) == 4) MULTIPLY("m16n8k8.row.col.f32.tf32.tf32.f32");
  else MULTIPLY("m16n8k16.row.col.f32.f16.f16.f32");
#else
  __trap();  // these GPUs have no such tensor cores, and nobody launches the kernel on them
#endif
}

template <typename T> struct TensorCores {
  static constexpr int TILE_O = 64, TILE = TILE_O;
  static constexpr int DOWN = TILE_O / 16, ACROSS = 4;  // fragments of a warp's 64 x 32 share

  typedef ::Word Word;
  static constexpr int CHANNELS = sizeof(Word) / sizeof(T);
  // Weights are rounded, once; of columns the instruction takes the first 10 bits.
  __device__ static Word weight(const T (&values)[CHANNELS]) {
    Word word = value(values);
    if (CHANNELS == 1 && !isnan(widen(values[0]))) word += 0x1000;  // half a unit, away from 0
    return word;
  }
  __device__ static Word product(T factor, const T* values) {
    T products[CHANNELS];
    for (int i = 0; i < CHANNELS; ++i) products[i] = T(widen(factor) * widen(values[i]));
    return value(products);
  }
  __device__ static Word value(const T* values) {
    if constexpr (CHANNELS == 2)
      return __half_as_ushort(values[0]) | (Word)__half_as_ushort(values[1]) << 16;
    else
      return __float_as_int(values[0]);
  }

  float sum[DOWN][ACROSS][4] = {};

  __device__ void add(const Word (&weights)[STEP][TILE_O + PAD],
                      const Word (&columns)[STEP][TILE_P + PAD]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, first = threadIdx.x / 32 * 32;
    Word right[ACROSS][2];
#pragma unroll
    for (int n = 0; n < ACROSS; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) right[n][i] = columns[t + i * 4][first + n * 8 + g];
#pragma unroll
    for (int m = 0; m < DOWN; ++m) {
      Word left[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) left[i] = weights[t + i / 2 * 4][m * 16 + g + i % 2 * 8];
#pragma unroll
      for (int n = 0; n < ACROSS; ++n) multiply_together<T>(sum[m][n], left, right[n]);
    }
  }
  template <typename Function> __device__ void for_each(Function write) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, first = threadIdx.x / 32 * 32;
#pragma unroll
    for (int m = 0; m < DOWN; ++m)
#pragma unroll
      for (int n = 0; n < ACROSS; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          write(m * 16 + g + i / 2 * 8, first + n * 8 + 2 * t + i % 2, sum[m][n][i]);
  }
  template <typename Function> __device__ static void for_each_place(Function visit) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, first = threadIdx.x / 32 * 32;
#pragma unroll 1
    for (int i = 0; i < DOWN * ACROSS * 4; ++i) {
      const int m = i / ACROSS / 4, n = i / 4 % ACROSS;
      visit(m * 16 + g + i % 4 / 2 * 8, first + n * 8 + 2 * t + i % 2);
    }
  }
};

// ---- one number by itself ----------------------------------------------------------------
// Tiles of columns hold zeros where a window leaves the image, and 0 * NaN is NaN: a weight or a
// gradient that is not finite would show where the formula does not use it. What comes out of
// tiles as NaN or infinite is therefore summed again, over what lies inside the image.

// sum_{k,c} weight[c,k] * mask[k,p] * x[c,p+delta_k], of one sample, group and output.
template <typename T, bool MASKED>
__device__ Accumulator<T> sum_inside(const T* image, const T* attention, const T* weight,
                                     const Window& window, int p, int channels) {
  const Place corner = window.corner(p);
  Accumulator<T> sum = 0;
#pragma unroll 1
  for (int k = 0; k < window.size(); ++k) {
    const int q = window.neighbour(corner, k / window.kernel_w, k % window.kernel_w);
    const Accumulator<T> attended =
        MASKED ? widen(attention[(Index)k * window.windows() + p]) : Accumulator<T>(1);
#pragma unroll 1
    for (int c = 0; q >= 0 && c < channels && !isnan(sum); ++c)
      sum += widen(weight[(Index)c * window.size() + k]) *
             (attended * widen(image[(Index)c * window.pixels() + q]));
  }
  return sum;
}

// ---- weights, arranged once a launch ---------------------------------------------------
// words (groups, tiles of outputs, offsets k, steps, STEP, TILE_O): what a block wants next lies
// next, and is 0 beyond the last channel and output. weight (groups * outputs, channels, K).
template <typename T, typename Product>
__device__ __forceinline__ void arrange(const T* __restrict__ weight,
                                        typename Product::Word* __restrict__ words, int size,
                                        int groups, int channels, int outputs) {
  constexpr int CHANNELS = Product::CHANNELS, TILE_O = Product::TILE;
  const int tiles = (outputs + TILE_O - 1) / TILE_O;
  const int rows = (channels + STEP * CHANNELS - 1) / (STEP * CHANNELS) * STEP;
  for (Index i = first_item(); i < (Index)groups * tiles * size * rows * TILE_O; i += item_step()) {
    const int row = i / TILE_O % rows, k = i / TILE_O / rows % size;
    const int tile = i / TILE_O / rows / size, o = tile % tiles * TILE_O + i % TILE_O;
    const T* from = weight + ((Index)(tile / tiles) * outputs + o) * channels * size + k;
    T values[CHANNELS];
    for (int j = 0; j < CHANNELS; ++j) {
      const int c = row * CHANNELS + j;
      values[j] = o < outputs && c < channels ? from[(Index)c * size] : T(0.f);
    }
    words[i] = Product::weight(values);
  }
}

// ---- the walk along the common axis ------------------------------------------------------
// x (N, groups*channels, H, W); mask (N, K, Ho, Wo), read if MASKED; words: the weights, arranged;
// bias (groups*outputs) or null; y (N, groups*outputs, Ho, Wo).
template <typename T, bool MASKED, typename Product>
__device__ __forceinline__ void convolve(const T* __restrict__ x, const T* __restrict__ mask,
                                         const typename Product::Word* __restrict__ words,
                                         const T* __restrict__ weight,
                                         const T* __restrict__ bias, T* __restrict__ y,
                                         const Window& window, Index batch, int groups,
                                         int channels, int outputs) {
  typedef Accumulator<T> A;
  typedef typename Product::Word Word;
  constexpr int TILE_O = Product::TILE;
  constexpr int CHANNELS = Product::CHANNELS, BROUGHT = STEP * CHANNELS;  // channels of a step
  constexpr int WEIGHTS = STEP * TILE_O / TILE_P;  // words of weights that a thread brings:
  struct alignas(WEIGHTS * sizeof(Word)) Run { Word word[WEIGHTS]; };  // neighbours, in one load
  // Two buffers: one is filled while slower threads still read the other.
  __shared__ __align__(16) Word columns[2][STEP][TILE_P + PAD];
  __shared__ __align__(16) Word weights[2][STEP][TILE_O + PAD];

  const int thread = threadIdx.x;
  const int windows = window.windows(), size = window.size(), pixels = window.pixels();
  const int tiles_o = (outputs + TILE_O - 1) / TILE_O, tiles_p = (windows + TILE_P - 1) / TILE_P;
  const int steps = size * ((channels + BROUGHT - 1) / BROUGHT);

  for (Index tile = blockIdx.x; tile < batch * groups * tiles_p * tiles_o; tile += gridDim.x) {
    const int tile_o = tile % tiles_o, o0 = tile_o * TILE_O, p0 = tile / tiles_o % tiles_p * TILE_P;
    const Index plane = tile / tiles_o / tiles_p;  // n * groups + group
    const int group = plane % groups, mine = p0 + thread;
    const Place corner = window.corner(mine);

    // Pointers that walk: to this thread's neighbour in the first channel of the next step, its
    // mask weights, and its share of the weights.
    const T* image = x + plane * channels * pixels;
    const T* source = image;
    const T* attention = MASKED ? mask + plane / groups * size * windows : nullptr;
    const T* next = MASKED ? attention + mine : nullptr;
    const Word* some = words + ((Index)group * tiles_o + tile_o) * steps * STEP * TILE_O;
    const Run* taps = (const Run*)some + thread;

    // What is loaded waits in registers, as it is, until it is stored a step later: to do
    // anything with it would be to wait for it.
    int row = 0, col = 0, c0 = 0, neighbour = -1;  // the next step's offset and first channel
    T attended = T(1.f), column[BROUGHT];
    Run run;
    auto fetch = [&]() {
      if (c0 == 0) {
        neighbour = mine < windows ? window.neighbour(corner, row, col) : -1;
        source = image + neighbour;
        if (MASKED) {
          attended = neighbour < 0 ? T(0.f) : *next;
          next += windows;
        }
        if (++col == window.kernel_w) { col = 0; ++row; }
      }
      const int filled = channels - c0;
#pragma unroll
      for (int c = 0; c < BROUGHT; ++c)
        column[c] = neighbour >= 0 && c < filled ? source[(Index)c * pixels] : T(0.f);
      source += (Index)BROUGHT * pixels;
      run = *taps;
      taps += TILE_P;
      c0 = filled <= BROUGHT ? 0 : c0 + BROUGHT;
    };
    auto store = [&](int buffer) {
#pragma unroll
      for (int j = 0; j < STEP; ++j) {
        const T* values = column + j * CHANNELS;
        columns[buffer][j][thread] =
            MASKED ? Product::product(attended, values) : Product::value(values);
      }
      *(Run*)&weights[buffer][thread * WEIGHTS / TILE_O][thread * WEIGHTS % TILE_O] = run;
    };

    Product product;
    if (steps) fetch();
    for (int step = 0; step < steps; ++step) {
      store(step % 2);
      __syncthreads();
      if (step + 1 < steps) fetch();  // on its way while this step is multiplied
      product.add(weights[step % 2], columns[step % 2]);
    }
    bool finite = true;
    auto write = [&](int o, int w, auto find) {
      const int output = o0 + o, p = p0 + w;
      if (output >= outputs || p >= windows) return;
      const A start = bias ? widen(bias[group * outputs + output]) : A(0);
      T& target = y[(plane * outputs + output) * windows + p];
      find(output, p, start, target);
    };
    product.for_each([&](int o, int w, A sum) {
      write(o, w, [&](int, int, A start, T& target) {
        finite = finite && isfinite(sum);
        target = T(start + sum);
      });
    });
    if (!finite)
      Product::for_each_place([&](int o, int w) {
        write(o, w, [&](int output, int p, A start, T& target) {
          const T* own = weight + (Index)(group * outputs + output) * channels * size;
          target = T(start + sum_inside<T, MASKED>(image, attention, own, window, p, channels));
        });
      });
    __syncthreads();  // the next tile fills the buffers anew
  }
}

// ---- the kernels -------------------------------------------------------------------------
template <typename T, int TILE_O> struct ProductOf {
  typedef Threads<Accumulator<T>, TILE_O> Type;
};
template <typename T> struct ProductOf<T, 0> { typedef TensorCores<T> Type; };

// TILE_O as the kernel of the convolution has it; 0 stands for tensor cores.
template <typename T, int TILE_O>
__global__ void arrange_weights(const T* __restrict__ weight,
                                typename ProductOf<T, TILE_O>::Type::Word* __restrict__ words,
                                int size, int groups, int channels, int outputs) {
  arrange<T, typename ProductOf<T, TILE_O>::Type>(weight, words, size, groups, channels, outputs);
}

template <typename T, int TILE_O, bool MASKED>
__global__ void __launch_bounds__(TILE_P)
convolution(const T* __restrict__ x, const T* __restrict__ mask,
            const Accumulator<T>* __restrict__ words, const T* __restrict__ weight,
            const T* __restrict__ bias, T* __restrict__ y, Window window, Index batch,
            int groups, int channels, int outputs) {
  convolve<T, MASKED, Threads<Accumulator<T>, TILE_O>>(
      x, mask, words, weight, bias, y, window, batch, groups, channels, outputs);
}

template <typename T, bool MASKED>
__global__ void __launch_bounds__(TILE_P)
convolution_tensor_cores(const T* __restrict__ x, const T* __restrict__ mask,
                         const Word* __restrict__ words, const T* __restrict__ weight,
                         const T* __restrict__ bias, T* __restrict__ y, Window window,
                         Index batch, int groups, int channels, int outputs) {
  convolve<T, MASKED, TensorCores<T>>(
      x, mask, words, weight, bias, y, window, batch, groups, channels, outputs);
}

// What products of columns made, y (N, groups*outputs, Ho, Wo), summed again where it is not
// finite; weight (groups*outputs, channels, K).
template <typename T, bool MASKED>
__global__ void convolution_repair(const T* __restrict__ x, const T* __restrict__ mask,
                                   const T* __restrict__ weight, const T* __restrict__ bias,
                                   T* __restrict__ y, Window window, Index batch, int groups,
                                   int channels, int outputs) {
  const int windows = window.windows(), size = window.size();
  for (Index i = first_item(); i < batch * groups * outputs * windows; i += item_step()) {
    if (isfinite(widen(y[i]))) continue;
    const Index map = i / windows, n = map / outputs / groups;
    const int output = map % (groups * outputs), p = i % windows;
    const T* image = x + (n * groups + output / outputs) * channels * window.pixels();
    const Accumulator<T> start = bias ? widen(bias[output]) : Accumulator<T>(0);
    y[i] = T(start + sum_inside<T, MASKED>(image, mask + n * size * windows,
                                           weight + (Index)output * channels * size, window, p,
                                           channels));
  }
}

// The same for dweight[o,c,k] = sum_{n,p} dy[n,o,p] * mask[n,k,p] * x[n,c,p+delta_k].
template <typename T, bool MASKED>
__global__ void weight_gradient_repair(const T* __restrict__ dy, const T* __restrict__ x,
                                       const T* __restrict__ mask,
                                       Accumulator<T>* __restrict__ dweight, Window window,
                                       Index batch, int groups, int channels, int outputs) {
  const int windows = window.windows(), size = window.size();
  for (Index i = first_item(); i < (Index)groups * outputs * channels * size; i += item_step()) {
    if (isfinite(dweight[i])) continue;
    const int k = i % size, output = i / size / channels;
    const int channel = output / outputs * channels + i / size % channels;
    Accumulator<T> sum = 0;
    for (Index at = 0; at < batch * windows && !isnan(sum); ++at) {
      const Index n = at / windows;
      const int p = at % windows;
      const int q = window.neighbour(window.corner(p), k / window.kernel_w, k % window.kernel_w);
      if (q < 0) continue;
      const Accumulator<T> attended =
          MASKED ? widen(mask[(n * size + k) * windows + p]) : Accumulator<T>(1);
      sum += widen(dy[(n * groups * outputs + output) * windows + p]) *
             (attended * widen(x[(n * groups * channels + channel) * window.pixels() + q]));
    }
    dweight[i] = sum;
  }
}
