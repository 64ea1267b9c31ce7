// Embedding distances inside windows, and their gradient.
//
//   d[n,k,p] = sum_c |e[n,c,p] - e[n,c,p+delta_k]|             L1
//   d[n,k,p] = 1/2 sum_c (e[n,c,p] - e[n,c,p+delta_k])^2       L2
//
//   embedding, de  (N, E, H, W)        d, dd  (N, K, Ho, Wo)
#include "common.cuh"

// What an entry of d is, by the three rules (in this order) that need no arithmetic.
enum Entry { MEASURED, ZERO, REMOVED };

__device__ __forceinline__ Entry entry(const Window& window, int centre, int neighbour, int k,
                                       bool remove_center, bool remove_bounds) {
  const int middle = window.kernel_h / 2 * window.kernel_w + window.kernel_w / 2;
  if (centre < 0) return ZERO;
  if (remove_center && k == middle) return REMOVED;
  if (neighbour < 0) return remove_bounds ? REMOVED : ZERO;
  return MEASURED;
}

// One thread measures OFFSETS offsets of one window: the centre's embedding is read once
// for all of them.
template <typename T, int NORM>
__global__ void distance(const T* __restrict__ embedding, T* __restrict__ d, Window window,
                         Index batch, int channels, int remove_center, int remove_bounds) {
  constexpr int OFFSETS = 8;
  const int windows = window.windows(), size = window.size(), pixels = window.pixels();
  const int groups = (size + OFFSETS - 1) / OFFSETS;
  for (Index i = first_item(); i < batch * groups * windows; i += item_step()) {
    const int p = i % windows, k0 = i / windows % groups * OFFSETS;
    const Index n = i / windows / groups;
    const Place corner = window.corner(p);
    const int centre = window.centre(corner);
    const T* image = embedding + n * channels * pixels;

    Entry kind[OFFSETS];
    int neighbour[OFFSETS];
    Accumulator<T> sum[OFFSETS] = {};
#pragma unroll
    for (int j = 0; j < OFFSETS; ++j) {
      const int k = k0 + j;
      const int q = window.neighbour(corner, k / window.kernel_w, k % window.kernel_w);
      kind[j] = entry(window, centre, q, k, remove_center, remove_bounds);
      // Entries that are not measured compare the centre with itself (or, where there is no
      // centre, pixel 0): a harmless read instead of a branch in the inner loop.
      neighbour[j] = kind[j] == MEASURED && k < size ? q : max(centre, 0);
    }
    for (int c = 0; c < channels; ++c) {
      const T* plane = image + (Index)c * pixels;
      const Accumulator<T> here = widen(plane[max(centre, 0)]);
#pragma unroll
      for (int j = 0; j < OFFSETS; ++j) {
        const Accumulator<T> difference = here - widen(plane[neighbour[j]]);
        sum[j] += NORM == 1 ? fabs(difference) : difference * difference;
      }
    }
    T* out = d + (n * size + k0) * windows + p;
#pragma unroll
    for (int j = 0; j < OFFSETS; ++j) {
      if (k0 + j >= size) break;
      const Accumulator<T> measured = NORM == 1 ? sum[j] : sum[j] / 2;
      out[(Index)j * windows] = T(kind[j] == MEASURED ? measured
                                  : kind[j] == ZERO   ? Accumulator<T>(0)
                                                      : infinity<Accumulator<T>>());
    }
  }
}

// Slope of the norm at a difference: its sign, with sign(0) = 0, or the difference itself.
template <int NORM, typename A> __device__ __forceinline__ A slope(A difference) {
  if (NORM == 2) return difference;
  return A((difference > 0) - (difference < 0));
}

// de[n,c,q] = + sum_k dd[n,k,p] slope(e[q] - e[p+delta_k])    p: the window centred on q
//             - sum_k dd[n,k,p] slope(e[centre of p] - e[q])  p: the one that sees q under k
// over the entries that are measured. One thread serves CHANNELS channels, for which the
// windows need to be looked up only once.
template <typename T, int NORM>
__global__ void distance_backward(const T* __restrict__ dd, const T* __restrict__ embedding,
                                  T* __restrict__ de, Window window, Index batch,
                                  int channels) {
  constexpr int CHANNELS = 8;
  const int windows = window.windows(), size = window.size(), pixels = window.pixels();
  const int middle = window.kernel_h / 2 * window.kernel_w + window.kernel_w / 2;
  const int groups = (channels + CHANNELS - 1) / CHANNELS;
  for (Index i = first_item(); i < batch * groups * pixels; i += item_step()) {
    const int q = i % pixels, y = q / window.width, x = q % window.width;
    const int c0 = i / pixels % groups * CHANNELS, count = min(CHANNELS, channels - c0);
    const Index n = i / pixels / groups, start = (n * channels + c0) * pixels;
    const T* gradient = dd + n * size * windows;
    const T* image = embedding + start;

    Accumulator<T> here[CHANNELS], sum[CHANNELS] = {};
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
      here[c] = c < count ? widen(image[(Index)c * pixels + q]) : Accumulator<T>(0);

    const int own = window.seen_from(y, x, window.kernel_h / 2, window.kernel_w / 2);
    for (int row = 0, k = 0; row < window.kernel_h; ++row)
      for (int col = 0; col < window.kernel_w; ++col, ++k) {
        if (k == middle) continue;  // the distance to oneself is constant
        // other[s], weight[s]: the pixel that q is compared with and the gradient of that
        // distance; s = 0 as the centre of its own window, s = 1 as a neighbour in another.
        const int seen = window.seen_from(y, x, row, col);
        const int other[2] = {own < 0 ? -1 : window.neighbour(window.corner(own), row, col),
                              seen < 0 ? -1 : window.centre(window.corner(seen))};
        const int from[2] = {own, seen};
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          if (other[s] < 0) continue;
          const Accumulator<T> weight = widen(gradient[(Index)k * windows + from[s]]);
#pragma unroll
          for (int c = 0; c < CHANNELS; ++c)
            if (c < count)
              // slope is odd, so -slope(e[other] - e[q]) is slope(e[q] - e[other]) again.
              sum[c] += weight * slope<NORM>(here[c] - widen(image[(Index)c * pixels + other[s]]));
        }
      }
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
      if (c < count) de[start + (Index)c * pixels + q] = T(sum[c]);
  }
}
