// Pooling: the maximum or the average of each window, and their gradients.
//
//   x, dx  (planes, H, W)      y, dy  (planes, Ho, Wo)
#include "common.cuh"

// A NaN in a window is its maximum.
template <typename T>
__global__ void max_pool(const T* __restrict__ x, T* __restrict__ y, Window window,
                         Index planes) {
  for (Index i = first_item(); i < planes * window.windows(); i += item_step()) {
    const Place corner = window.corner(i % window.windows());
    const T* image = x + i / window.windows() * window.pixels();
    Accumulator<T> best = -infinity<Accumulator<T>>();
    for (int row = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col) {
        const int q = window.neighbour(corner, row, col);
        if (q >= 0 && !(widen(image[q]) <= best) && !isnan(best)) best = widen(image[q]);
      }
    y[i] = T(best);
  }
}

// Each window's gradient goes to the first of its maxima: a pixel gathers from the windows
// that see it, and in each looks whether an earlier offset has the maximum already.
template <typename T>
__global__ void max_pool_backward(const T* __restrict__ dy, const T* __restrict__ x,
                                  const T* __restrict__ y, T* __restrict__ dx, Window window,
                                  Index planes) {
  for (Index i = first_item(); i < planes * window.pixels(); i += item_step()) {
    const Index plane = i / window.pixels();
    const int q = i % window.pixels();
    const T* image = x + plane * window.pixels();
    Accumulator<T> sum = 0;
    for (int row = 0, k = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col, ++k) {
        const int p = window.seen_from(q / window.width, q % window.width, row, col);
        if (p < 0) continue;
        const Index at = plane * window.windows() + p;
        const Accumulator<T> top = widen(y[at]);
        bool first = widen(image[q]) == top;
        const Place corner = window.corner(p);
        for (int j = 0; first && j < k; ++j) {
          const int r = window.neighbour(corner, j / window.kernel_w, j % window.kernel_w);
          first = r < 0 || widen(image[r]) != top;
        }
        if (first) sum += widen(dy[at]);
      }
    dx[i] = T(sum);
  }
}

// How many pixels of window p lie in the padded image: what an average divides by.
__device__ __forceinline__ int padded_area(const Window& window, Place corner) {
  int rows = 0, cols = 0;
  for (int row = 0; row < window.kernel_h; ++row)
    rows += corner.y + row * window.dilation_h < window.height + window.pad_h;
  for (int col = 0; col < window.kernel_w; ++col)
    cols += corner.x + col * window.dilation_w < window.width + window.pad_w;
  return rows * cols;
}

template <typename T>
__global__ void average_pool(const T* __restrict__ x, T* __restrict__ y, Window window,
                             Index planes) {
  for (Index i = first_item(); i < planes * window.windows(); i += item_step()) {
    const Place corner = window.corner(i % window.windows());
    const T* image = x + i / window.windows() * window.pixels();
    Accumulator<T> sum = 0;
    for (int row = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col) {
        const int q = window.neighbour(corner, row, col);
        if (q >= 0) sum += widen(image[q]);
      }
    y[i] = T(sum / padded_area(window, corner));
  }
}

template <typename T>
__global__ void average_pool_backward(const T* __restrict__ dy, T* __restrict__ dx,
                                      Window window, Index planes) {
  for (Index i = first_item(); i < planes * window.pixels(); i += item_step()) {
    const int q = i % window.pixels();
    const T* gradient = dy + i / window.pixels() * window.windows();
    Accumulator<T> sum = 0;
    for (int row = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col) {
        const int p = window.seen_from(q / window.width, q % window.width, row, col);
        if (p >= 0) sum += widen(gradient[p]) / padded_area(window, window.corner(p));
      }
    dx[i] = T(sum);
  }
}
