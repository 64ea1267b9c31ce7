// Columns: the windows of an image written out, and everything that is a sum over them.
//
//   x, dx    (N, C, H, W)              mask, dmask  (N, K, Ho, Wo), shared by all channels
//   columns  (C, K, N, Ho, Wo)         delta_k      offset k of the window
//
// The windows of all samples lie side by side, so that the columns of a batch are one matrix
// (C*K x windows). (N, C, K, Ho, Wo) is the same of a single sample that has N*C channels.
#include "common.cuh"

// columns[c,k,n,p] = x[n,c,p+delta_k], times mask[n,k,p] if MASKED; 0 outside the image.
//
// Only the windows first ... first+count-1 of each sample are written, into
// (channels, K, batch, count), so that the columns of a large image can be made a piece at a time.
template <typename T, bool MASKED>
__global__ void im2col(const T* __restrict__ x, const T* __restrict__ mask,
                       T* __restrict__ columns, Window window, Index batch, Index channels,
                       int first, int count) {
  const Index row = batch * count;
  for (Index i = first_item(); i < channels * row; i += item_step()) {
    const Index c = i / row, at = i % row, n = at / count;
    const int p = first + (int)(at % count);
    const Place corner = window.corner(p);
    const T* image = x + (n * channels + c) * window.pixels();
    const T* weight = mask + n * window.size() * window.windows() + p;
    T* column = columns + c * window.size() * row + at;
    for (int r = 0, k = 0; r < window.kernel_h; ++r)
      for (int col = 0; col < window.kernel_w; ++col, ++k) {
        const int q = window.neighbour(corner, r, col);
        T value = q < 0 ? T(0.f) : image[q];
        if (MASKED) value = T(widen(value) * widen(weight[(Index)k * window.windows()]));
        column[k * row] = value;
      }
  }
}

// The adjoint of the columns without a mask: dx[n,c,q] = sum over the windows p that see q
// under their offset k of columns[c,k,n,p].
template <typename T>
__global__ void col2im(const T* __restrict__ columns, T* __restrict__ dx, Window window,
                       Index batch, Index channels) {
  const int pixels = window.pixels();
  const Index row = batch * window.windows();
  for (Index i = first_item(); i < batch * channels * pixels; i += item_step()) {
    const int q = i % pixels, y = q / window.width, x = q % window.width;
    const Index n = i / pixels / channels, c = i / pixels % channels;
    const T* column = columns + c * window.size() * row + n * window.windows();
    Accumulator<T> sum = 0;
    for (int r = 0, k = 0; r < window.kernel_h; ++r)
      for (int col = 0; col < window.kernel_w; ++col, ++k) {
        const int p = window.seen_from(y, x, r, col);
        if (p >= 0) sum += widen(column[k * row + p]);
      }
    dx[i] = T(sum);
  }
}

// Both gradients of masked columns, in one pass over the gradient of the columns:
//
//   dx[n,c,q]     = sum_k mask[n,k,p] * columns[c,k,n,p]
//   dmask[n,k,p] += sum_c columns[c,k,n,p] * x[n,c,q]          q = p + delta_k
//
// Of the windows at most one sees pixel q under offset k, and under k a window sees at most one
// pixel. So whoever owns q owns the entries (k, p) that lead to it, too. A block owns 32 pixels,
// and each of its warps CHANNELS channels; what the warps add to an entry of dmask meets in
// shared memory, in a fixed order. dmask continues a sum over channels that come in several
// pieces, which is why it has the accumulator's precision.
//
// dx and dmask may be null. SPREAD: every offset of a window has the same value; `columns` is
// (N, C, Ho, Wo).
constexpr int LANES = 32, WARPS = 8;

template <typename T, bool SPREAD>
__global__ void masked_columns_backward(const T* __restrict__ columns, const T* __restrict__ x,
                                        const T* __restrict__ mask, T* __restrict__ dx,
                                        Accumulator<T>* __restrict__ dmask, Window window,
                                        Index batch, int channels) {
  typedef Accumulator<T> A;
  constexpr int CHANNELS = 8, OFFSETS = 9;  // of a warp; between two barriers
  // Two buffers: one is filled while slower warps still read the other.
  __shared__ A shares[2][OFFSETS][WARPS][LANES];
  int buffer = 0;

  const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
  const int windows = window.windows(), size = window.size(), pixels = window.pixels();
  const int tiles = (pixels + LANES - 1) / LANES;
  const Index row = SPREAD ? 0 : batch * windows;                 // to the next offset
  const Index step = SPREAD ? windows : size * row;               // to the next channel
  const Index sample = (Index)(SPREAD ? channels : 1) * windows;  // to the next sample
  for (Index tile = blockIdx.x; tile < batch * tiles; tile += gridDim.x) {
    const Index n = tile / tiles;
    const int q = tile % tiles * LANES + lane;
    auto window_of = [&](int k) {
      if (q >= pixels || k >= size) return -1;
      const int r = k / window.kernel_w, col = k % window.kernel_w;
      return window.seen_from(q / window.width, q % window.width, r, col);
    };
    for (int round = 0; round < channels; round += warps * CHANNELS) {
      const int c0 = round + warp * CHANNELS, count = min(CHANNELS, channels - c0);
      const Index plane = n * channels + c0;
      A here[CHANNELS] = {}, sum[CHANNELS] = {};
#pragma unroll
      for (int c = 0; c < CHANNELS; ++c)
        if (c < count && q < pixels) here[c] = widen(x[(plane + c) * pixels + q]);

      for (int k0 = 0; k0 < size; k0 += OFFSETS) {
#pragma unroll 1
        for (int k = k0; k < k0 + OFFSETS; ++k) {
          const int p = window_of(k);
          A share = 0;
          if (p >= 0) {
            const A weight = dx ? widen(mask[(n * size + k) * windows + p]) : A(0);
            const T* column = columns + c0 * step + k * row + n * sample + p;
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c)
              if (c < count) {
                const A gradient = widen(column[c * step]);
                sum[c] += weight * gradient;
                share += gradient * here[c];
              }
          }
          shares[buffer][k - k0][warp][lane] = share;
        }
        if (!dmask) continue;
        __syncthreads();
        for (int j = warp; j < OFFSETS; j += warps) {
          const int p = window_of(k0 + j);
          A total = 0;
          for (int w = 0; w < warps; ++w) total += shares[buffer][j][w][lane];
          if (p >= 0) dmask[(n * size + k0 + j) * windows + p] += total;
        }
        buffer ^= 1;
      }
#pragma unroll
      for (int c = 0; c < CHANNELS; ++c)
        if (dx && c < count && q < pixels) dx[(plane + c) * pixels + q] = T(sum[c]);
    }
  }
}

// y[n,c,p] = sum_k mask[n,k,p] * x[n,c,p+delta_k]
//
// PER_OFFSET: each offset reads an image of its own; x is (N, C, K, H, W). One thread serves
// CHANNELS channels, which share the mask weight and the neighbour's place.
template <typename T, bool PER_OFFSET>
__global__ void masked_sum(const T* __restrict__ x, const T* __restrict__ mask,
                           T* __restrict__ y, Window window, Index batch, int channels) {
  constexpr int CHANNELS = 8;
  const int windows = window.windows(), size = window.size();
  const int groups = (channels + CHANNELS - 1) / CHANNELS;
  const Index plane = (Index)(PER_OFFSET ? size : 1) * window.pixels();
  for (Index i = first_item(); i < batch * groups * windows; i += item_step()) {
    const int p = i % windows, c0 = i / windows % groups * CHANNELS;
    const Index n = i / windows / groups;
    const int count = min(CHANNELS, channels - c0);
    const Place corner = window.corner(p);
    const T* image = x + (n * channels + c0) * plane;
    const T* weights = mask + n * size * windows + p;
    Accumulator<T> sum[CHANNELS] = {};
    for (int row = 0, k = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col, ++k) {
        const int q = window.neighbour(corner, row, col);
        if (q < 0) continue;
        const Accumulator<T> weight = widen(weights[(Index)k * windows]);
        const Index at = (PER_OFFSET ? (Index)k * window.pixels() : 0) + q;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c)
          if (c < count) sum[c] += weight * widen(image[c * plane + at]);
      }
    T* out = y + (n * channels + c0) * windows + p;
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
      if (c < count) out[(Index)c * windows] = T(sum[c]);
  }
}
