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
//           +---------------+        Each thread owns 8 outputs x TILE_O/8 windows, which it
//      STEP |    columns    |        keeps in registers. The offset k is the outer loop, so
//           +---------------+        that a thread looks up its window's neighbour and mask
//   STEP                             weight once for all channels.
//  +-----+  +---------------+
//  |  w  |  |       y       | TILE_O outputs
//  +-----+  +---------------+
#include "common.cuh"

constexpr int TILE_P = 128;  // windows of a tile, and threads of a block: each brings a column
constexpr int STEP = 8;      // channels brought at a time
constexpr int OUTPUTS = 8;   // outputs of a thread

// x (N, groups*channels, H, W); mask (N, K, Ho, Wo), read if MASKED;
// weight (groups, K, channels, outputs): transposed, so that a block reads whole lines;
// bias (groups*outputs) or null; y (N, groups*outputs, Ho, Wo).
template <typename T, int TILE_O, bool MASKED>
__global__ void __launch_bounds__(TILE_P)
convolution(const T* __restrict__ x, const T* __restrict__ mask, const T* __restrict__ weight,
            const T* __restrict__ bias, T* __restrict__ y, Window window, Index batch,
            int groups, int channels, int outputs) {
  typedef Accumulator<T> A;
  constexpr int ROWS = TILE_O / OUTPUTS;              // threads down a tile
  constexpr int COLS = TILE_P / ROWS;                 // threads across it
  constexpr int WINDOWS = TILE_P / COLS;              // windows of a thread ...
  constexpr int RUN = WINDOWS < 4 ? WINDOWS : 4;      // ... in runs of neighbours (one load)
  constexpr int WEIGHTS = STEP * TILE_O / TILE_P;     // weights that a thread brings
  // Two buffers: one is filled while slower threads still read the other.
  __shared__ __align__(16) A columns[2][STEP][TILE_P];
  __shared__ __align__(16) A weights[2][STEP][TILE_O];

  const int thread = threadIdx.x, down = thread / COLS, across = thread % COLS;
  const int windows = window.windows(), size = window.size(), pixels = window.pixels();
  const int tiles_o = (outputs + TILE_O - 1) / TILE_O, tiles_p = (windows + TILE_P - 1) / TILE_P;
  const int chunks = (channels + STEP - 1) / STEP, steps = size * chunks;

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
    A attended = 1, column[STEP], some[WEIGHTS];
    auto fetch = [&]() {
      const int k = row * window.kernel_w + col;
      if (c0 == 0) {
        neighbour = mine < windows ? window.neighbour(corner, row, col) : -1;
        if (MASKED && neighbour >= 0) attended = widen(attention[(Index)k * windows + mine]);
      }
#pragma unroll
      for (int j = 0; j < STEP; ++j) {
        column[j] = 0;
        if (neighbour >= 0 && c0 + j < channels)
          column[j] = attended * widen(image[(Index)(c0 + j) * pixels + neighbour]);
      }
#pragma unroll
      for (int j = 0; j < WEIGHTS; ++j) {
        const int at = thread + j * TILE_P, c = c0 + at / TILE_O, o = o0 + at % TILE_O;
        some[j] = 0;
        if (c < channels && o < outputs)
          some[j] = widen(matrix[((Index)k * channels + c) * outputs + o]);
      }
      c0 += STEP;
      if (c0 >= channels) { c0 = 0; ++col; }
      if (col == window.kernel_w) { col = 0; ++row; }
    };

    A sum[OUTPUTS][WINDOWS] = {};
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
#pragma unroll
      for (int j = 0; j < STEP; ++j) {
        A left[OUTPUTS], right[WINDOWS];
#pragma unroll
        for (int o = 0; o < OUTPUTS; ++o) left[o] = weights[buffer][j][down * OUTPUTS + o];
#pragma unroll
        for (int w = 0; w < WINDOWS; ++w)
          right[w] = columns[buffer][j][(w / RUN * COLS + across) * RUN + w % RUN];
#pragma unroll
        for (int o = 0; o < OUTPUTS; ++o)
#pragma unroll
          for (int w = 0; w < WINDOWS; ++w) sum[o][w] += left[o] * right[w];
      }
    }

#pragma unroll
    for (int o = 0; o < OUTPUTS; ++o) {
      const int output = o0 + down * OUTPUTS + o;
      if (output >= outputs) break;
      const A start = bias ? widen(bias[group * outputs + output]) : A(0);
      T* out = y + (plane * outputs + output) * windows;
#pragma unroll
      for (int w = 0; w < WINDOWS; ++w) {
        const int p = p0 + (w / RUN * COLS + across) * RUN + w % RUN;
        if (p < windows) out[p] = T(start + sum[o][w]);
      }
    }
    __syncthreads();  // the next tile fills the buffers anew
  }
}
