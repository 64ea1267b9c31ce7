// Columns: the windows of an image written out, and everything that is a sum over them.
//
//   x, dx    (N, C, H, W)              mask, dmask  (N, K, Ho, Wo), shared by all channels
//   columns  (N, C, K, Ho, Wo)         delta_k      offset k of the window
#include "common.cuh"

// columns[n,c,k,p] = x[n,c,p+delta_k], times mask[n,k,p] if MASKED; 0 outside the image.
//
// Only the windows first ... first+count-1 are written, into (planes, K, count), so that the
// columns of a large image can be made a piece at a time. planes = N * channels.
template <typename T, bool MASKED>
__global__ void im2col(const T* __restrict__ x, const T* __restrict__ mask,
                       T* __restrict__ columns, Window window, Index planes, int channels,
                       int first, int count) {
  for (Index i = first_item(); i < planes * count; i += item_step()) {
    const Index plane = i / count;
    const int at = i % count, p = first + at;
    const Place corner = window.corner(p);
    const T* image = x + plane * window.pixels();
    const T* weight = mask + plane / channels * window.size() * window.windows() + p;
    T* column = columns + plane * window.size() * count + at;
    for (int row = 0, k = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col, ++k) {
        const int q = window.neighbour(corner, row, col);
        T value = q < 0 ? T(0.f) : image[q];
        if (MASKED) value = T(widen(value) * widen(weight[(Index)k * window.windows()]));
        column[(Index)k * count] = value;
      }
  }
}

// The adjoint: dx[n,c,q] = sum over the windows p that see q under their offset k of
// columns[n,c,k,p], times mask[n,k,p] if MASKED.
//
// SPREAD: every offset of a window has the same value; `columns` is (N, C, Ho, Wo).
template <typename T, bool MASKED, bool SPREAD>
__global__ void col2im(const T* __restrict__ columns, const T* __restrict__ mask,
                       T* __restrict__ dx, Window window, Index planes, int channels) {
  const int windows = window.windows(), size = window.size();
  for (Index i = first_item(); i < planes * window.pixels(); i += item_step()) {
    const Index plane = i / window.pixels();
    const int q = i % window.pixels(), y = q / window.width, x = q % window.width;
    const T* column = columns + plane * (SPREAD ? 1 : size) * windows;
    const T* weight = mask + plane / channels * size * windows;
    Accumulator<T> sum = 0;
    for (int row = 0, k = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col, ++k) {
        const int p = window.seen_from(y, x, row, col);
        if (p < 0) continue;
        const Accumulator<T> value = widen(column[(SPREAD ? 0 : (Index)k * windows) + p]);
        sum += MASKED ? value * widen(weight[(Index)k * windows + p]) : value;
      }
    dx[i] = T(sum);
  }
}

// dmask[n,k,p] (+)= sum_c columns[n,c,k,p] * x[n,c,p+delta_k], `columns` being the gradient
// of the masked columns. ADD continues a sum over channels that come in several pieces,
// which is why dmask is kept in the accumulator's precision.
template <typename T, bool SPREAD, bool ADD>
__global__ void mask_gradient(const T* __restrict__ columns, const T* __restrict__ x,
                              Accumulator<T>* __restrict__ dmask, Window window,
                              Index batch, int channels) {
  const int windows = window.windows(), size = window.size();
  const Index step = (Index)(SPREAD ? 1 : size) * windows;  // from one channel to the next
  for (Index i = first_item(); i < batch * size * windows; i += item_step()) {
    const int p = i % windows, k = i / windows % size;
    const Index n = i / windows / size;
    const int q = window.neighbour(window.corner(p), k / window.kernel_w, k % window.kernel_w);
    Accumulator<T> sum = 0;
    if (q >= 0) {
      const T* column = columns + n * channels * step + (SPREAD ? 0 : (Index)k * windows) + p;
      const T* image = x + n * channels * window.pixels() + q;
      for (int c = 0; c < channels; ++c)
        sum += widen(column[c * step]) * widen(image[(Index)c * window.pixels()]);
    }
    dmask[i] = ADD ? dmask[i] + sum : sum;
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
