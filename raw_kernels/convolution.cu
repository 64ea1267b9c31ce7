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
  static constexpr int OUTPUTS = 8;                   // outputs of a thread
  static constexpr int ROWS = TILE_O / OUTPUTS;       // threads down a tile
  static constexpr int COLS = TILE_P / ROWS;          // threads across it
  static constexpr int WINDOWS = TILE_P / COLS;       // windows of a thread ...
  static constexpr int RUN = WINDOWS < 4 ? WINDOWS : 4;  // ... in runs of neighbours (one load)

  // The widest tile has no registers left for the factors of all STEP rows at once.
  static constexpr int UNROLLED = WINDOWS == 8 ? STEP / 2 : STEP;

  // What lies in shared memory: a word for so many channels, made of their factors.
  typedef A Word;
  static constexpr int CHANNELS = 1;
  template <typename Function> __device__ static Word bring(Function factor) {
    return factor(0);
  }

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
  static constexpr int TILE_O = 64;
  static constexpr int DOWN = TILE_O / 16, ACROSS = 4;  // fragments of a warp's 64 x 32 share

  typedef ::Word Word;
  static constexpr int CHANNELS = sizeof(Word) / sizeof(T);
  template <typename Function> __device__ static Word bring(Function factor) {
    if constexpr (CHANNELS == 2) {
      const Word low = __half_as_ushort(T(factor(0)));
      return low | (Word)__half_as_ushort(T(factor(1))) << 16;
    }
    const float value = factor(0);
    Word bits = __float_as_int(value);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
#else
    if (!isnan(value)) bits = (bits + 0x1000) & ~0x1fff;  // to the nearest, ties away from 0
#endif
    return bits;
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

// sum_{k,c} weight[k,c] * mask[k,p] * x[c,p+delta_k], of one sample, group and output, whose
// weights lie `next_offset` and `next_channel` apart.
template <typename T, bool MASKED>
__device__ Accumulator<T> sum_inside(const T* image, const T* attention, const T* weights,
                                     Index next_offset, Index next_channel,
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
      sum += widen(weights[k * next_offset + c * next_channel]) *
             (attended * widen(image[(Index)c * window.pixels() + q]));
  }
  return sum;
}

// ---- the walk along the common axis ------------------------------------------------------
// x (N, groups*channels, H, W); mask (N, K, Ho, Wo), read if MASKED;
// weight (groups, K, channels, outputs): transposed, so that a block reads whole lines;
// bias (groups*outputs) or null; y (N, groups*outputs, Ho, Wo).
template <typename T, int TILE_O, bool MASKED, typename Product>
__device__ __forceinline__ void convolve(const T* __restrict__ x, const T* __restrict__ mask,
                                         const T* __restrict__ weight,
                                         const T* __restrict__ bias, T* __restrict__ y,
                                         const Window& window, Index batch, int groups,
                                         int channels, int outputs) {
  typedef Accumulator<T> A;
  typedef typename Product::Word Word;
  constexpr int CHANNELS = Product::CHANNELS;
  constexpr int WEIGHTS = STEP * TILE_O / TILE_P;  // words of weights that a thread brings
  // Two buffers: one is filled while slower threads still read the other.
  __shared__ __align__(16) Word columns[2][STEP][TILE_P + PAD];
  __shared__ __align__(16) Word weights[2][STEP][TILE_O + PAD];

  const int thread = threadIdx.x;
  const int windows = window.windows(), size = window.size(), pixels = window.pixels();
  const int tiles_o = (outputs + TILE_O - 1) / TILE_O, tiles_p = (windows + TILE_P - 1) / TILE_P;
  const int chunks = (channels + STEP * CHANNELS - 1) / (STEP * CHANNELS), steps = size * chunks;

  for (Index tile = blockIdx.x; tile < batch * groups * tiles_p * tiles_o; tile += gridDim.x) {
    const int o0 = tile % tiles_o * TILE_O, p0 = tile / tiles_o % tiles_p * TILE_P;
    const Index plane = tile / tiles_o / tiles_p;  // n * groups + group
    const int group = plane % groups;
    const T* image = x + plane * channels * pixels;
    const T* attention = mask + plane / groups * size * windows;
    const T* matrix = weight + (Index)group * size * channels * outputs;

    // What this thread brings: the column of window p0 + thread, and some weights.
    const int mine = p0 + thread;
    const Place corner = window.corner(mine);
    int row = 0, col = 0, c0 = 0, neighbour = -1;  // the next step's offset and first channel
    A attended = 1;
    Word column[STEP], some[WEIGHTS];
    auto fetch = [&]() {
      const int k = row * window.kernel_w + col;
      if (c0 == 0) {
        neighbour = mine < windows ? window.neighbour(corner, row, col) : -1;
        if (MASKED && neighbour >= 0) attended = widen(attention[(Index)k * windows + mine]);
      }
#pragma unroll
      for (int j = 0; j < STEP; ++j)
        column[j] = Product::bring([&](int i) {
          const int c = c0 + j * CHANNELS + i;
          if (neighbour < 0 || c >= channels) return A(0);
          return attended * widen(image[(Index)c * pixels + neighbour]);
        });
#pragma unroll
      for (int j = 0; j < WEIGHTS; ++j)
        some[j] = Product::bring([&](int i) {
          const int at = thread + j * TILE_P, o = o0 + at % TILE_O;
          const int c = c0 + at / TILE_O * CHANNELS + i;
          if (o >= outputs || c >= channels) return A(0);
          return A(widen(matrix[((Index)k * channels + c) * outputs + o]));
        });
      c0 += STEP * CHANNELS;
      if (c0 >= channels) { c0 = 0; ++col; }
      if (col == window.kernel_w) { col = 0; ++row; }
    };

    Product product;
    if (steps) fetch();
    for (int step = 0; step < steps; ++step) {
      const int buffer = step % 2;
#pragma unroll
      for (int j = 0; j < STEP; ++j) columns[buffer][j][thread] = column[j];
#pragma unroll
      for (int j = 0; j < WEIGHTS; ++j) {
        const int at = thread + j * TILE_P;
        weights[buffer][at / TILE_O][at % TILE_O] = some[j];
      }
      __syncthreads();
      if (step + 1 < steps) fetch();  // on its way while this step is multiplied
      product.add(weights[buffer], columns[buffer]);
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
          target = T(start + sum_inside<T, MASKED>(image, attention, matrix + output,
                                                   (Index)channels * outputs, outputs, window,
                                                   p, channels));
        });
      });
    __syncthreads();  // the next tile fills the buffers anew
  }
}

// ---- the kernels -------------------------------------------------------------------------
template <typename T, int TILE_O, bool MASKED>
__global__ void __launch_bounds__(TILE_P)
convolution(const T* __restrict__ x, const T* __restrict__ mask, const T* __restrict__ weight,
            const T* __restrict__ bias, T* __restrict__ y, Window window, Index batch,
            int groups, int channels, int outputs) {
  convolve<T, TILE_O, MASKED, Threads<Accumulator<T>, TILE_O>>(
      x, mask, weight, bias, y, window, batch, groups, channels, outputs);
}

template <typename T, bool MASKED>
__global__ void __launch_bounds__(TILE_P)
convolution_tensor_cores(const T* __restrict__ x, const T* __restrict__ mask,
                         const T* __restrict__ weight, const T* __restrict__ bias,
                         T* __restrict__ y, Window window, Index batch, int groups, int channels,
                         int outputs) {
  convolve<T, TensorCores<T>::TILE_O, MASKED, TensorCores<T>>(
      x, mask, weight, bias, y, window, batch, groups, channels, outputs);
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
                                           weight + (Index)output * channels * size, 1, size,
                                           window, p, channels));
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
