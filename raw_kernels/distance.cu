// Embedding distances inside windows, attention masks, and the gradients of both.
//
//   d[n,k,p] = sum_c |e[n,c,p] - e[n,c,p+delta_k]|             NORM 1: L1
//   d[n,k,p] = 1/2 sum_c (e[n,c,p] - e[n,c,p+delta_k])^2       NORM 2: L2
//   m[n,k,p] = exp(-s d[n,k,p])                                exponential
//   m[n,k,p] = exp(-s d[n,k,p]) / sum_j exp(-s d[n,j,p])       NORMALIZED
//
//   embedding, de  (N, E, H, W)        d, dd, m, dm  (N, K, Ho, Wo)
//
// d is infinite where an entry is removed: its weight is 0. A mask comes from distances that
// are stored (NORM 0) or straight from the embedding, and then no distance is ever stored.
#include "common.cuh"

constexpr int OFFSETS = 9;  // measured together: the centre's embedding is read once for all

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

// How many entries a thread measures at a time; stored ones are read one by one.
template <int NORM> constexpr int TOGETHER = NORM == 0 ? 1 : OFFSETS;

// d[j] = the distance under offset k0 + j of window p: measured in the embedding that `source`
// is, or with NORM 0 found there.
template <int NORM, typename T>
__device__ __forceinline__ void measure(Accumulator<T> (&d)[TOGETHER<NORM>], const T* source,
                                        const Window& window, Index n, int p, int k0,
                                        int channels, bool remove_center, bool remove_bounds) {
  const int windows = window.windows(), size = window.size(), pixels = window.pixels();
  if constexpr (NORM == 0) {
    d[0] = widen(source[(n * size + k0) * windows + p]);
    return;
  }
  const Place corner = window.corner(p);
  const int centre = window.centre(corner);
  Entry kind[OFFSETS];
  int neighbour[OFFSETS];
#pragma unroll
  for (int j = 0; j < OFFSETS; ++j) {
    const int k = k0 + j;
    const int q = window.neighbour(corner, k / window.kernel_w, k % window.kernel_w);
    kind[j] = entry(window, centre, q, k, remove_center, remove_bounds);
    // Entries that are not measured compare the centre with itself (or, where there is no
    // centre, pixel 0): a harmless read instead of a branch in the inner loop.
    neighbour[j] = kind[j] == MEASURED && k < size ? q : max(centre, 0);
    d[j] = 0;
  }
#pragma unroll 1  // ten loads are on their way already; more would cost half of the threads
  for (int c = 0; c < channels; ++c) {
    const T* plane = source + (n * channels + c) * pixels;
    const Accumulator<T> here = widen(plane[max(centre, 0)]);
#pragma unroll
    for (int j = 0; j < OFFSETS; ++j) {
      const Accumulator<T> difference = here - widen(plane[neighbour[j]]);
      d[j] += NORM == 1 ? fabs(difference) : difference * difference;
    }
  }
#pragma unroll
  for (int j = 0; j < OFFSETS; ++j) {
    if (NORM == 2) d[j] /= 2;
    if (kind[j] == ZERO) d[j] = 0;
    if (kind[j] == REMOVED) d[j] = infinity<Accumulator<T>>();
  }
}

template <typename T, int NORM>
__global__ void distance(const T* __restrict__ embedding, T* __restrict__ d, Window window,
                         Index batch, int channels, int remove_center, int remove_bounds) {
  const int windows = window.windows(), size = window.size();
  const int groups = (size + OFFSETS - 1) / OFFSETS;
  for (Index i = first_item(); i < batch * groups * windows; i += item_step()) {
    const int p = i % windows, k0 = i / windows % groups * OFFSETS;
    const Index n = i / windows / groups;
    Accumulator<T> measured[OFFSETS];
    measure<NORM>(measured, embedding, window, n, p, k0, channels, remove_center, remove_bounds);
    T* out = d + (n * size + k0) * windows + p;
#pragma unroll
    for (int j = 0; j < OFFSETS; ++j)
      if (k0 + j < size) out[(Index)j * windows] = T(measured[j]);
  }
}

// Slope of the norm at a difference: its sign, with sign(0) = 0, or the difference itself.
template <int NORM, typename A> __device__ __forceinline__ A slope(A difference) {
  if (NORM == 2) return difference;
  return difference > 0 ? A(1) : difference < 0 ? A(-1) : difference;  // NaN stays NaN
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
          if (weight == 0) continue;  // nor does a NaN pass where no gradient does
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

// ---- attention masks -----------------------------------------------------------------------
// The softmax of -s d over one window; uniform if all of it is removed. `d` may be `mask`.
template <typename T>
__device__ void normalize(const T* d, T* mask, Accumulator<T> s, int size, int windows) {
  typedef Accumulator<T> A;
  // Relative to the entry of the largest weight, before the scale: so nothing overflows.
  A nearest = infinity<A>(), sum = 0;
  for (int k = 0; k < size; ++k) {
    const A distance = widen(d[(Index)k * windows]), rank = s < 0 ? -distance : distance;
    if (!isinf(distance) && !(rank >= nearest)) nearest = rank;
  }
  const bool empty = isinf(nearest);
  if (!(s > 0)) nearest = s < 0 ? -nearest : A(0);
  for (int k = 0; k < size; ++k) {
    const A distance = widen(d[(Index)k * windows]);
    if (!isinf(distance)) sum += exp(-s * (distance - nearest));
  }
  for (int k = 0; k < size; ++k) {
    const A distance = widen(d[(Index)k * windows]);
    const A weight = isinf(distance) ? A(0) : exp(-s * (distance - nearest)) / sum;
    mask[(Index)k * windows] = T(empty ? A(1) / size : weight);
  }
}

// One thread owns TOGETHER entries of a window, or NORMALIZED the whole window.
template <typename T, int NORM, bool NORMALIZED>
__global__ void attention_mask(const T* __restrict__ source, T* mask,
                               const T* __restrict__ scale, double scale_value, Window window,
                               Index batch, int channels, int remove_center, int remove_bounds) {
  typedef Accumulator<T> A;
  constexpr int COUNT = TOGETHER<NORM>;
  const A s = scalar(scale, scale_value);
  const int windows = window.windows(), size = window.size();
  const int shares = NORMALIZED ? 1 : (size + COUNT - 1) / COUNT;
  for (Index i = first_item(); i < batch * shares * windows; i += item_step()) {
    const int p = i % windows, first = i / windows % shares * COUNT;
    const Index n = i / windows / shares, start = n * size * windows + p;
    const int end = NORMALIZED ? size : min(first + COUNT, size);
    for (int k0 = first; k0 < end && (NORM || !NORMALIZED); k0 += COUNT) {
      A d[COUNT];
      measure<NORM>(d, source, window, n, p, k0, channels, remove_center, remove_bounds);
      T* out = mask + start + (Index)k0 * windows;
#pragma unroll
      for (int j = 0; j < COUNT; ++j) {
        // A softmax leaves its distances where its weights will be.
        const A value = NORMALIZED ? d[j] : isinf(d[j]) ? A(0) : exp(-s * d[j]);
        if (k0 + j < size) out[(Index)j * windows] = T(value);
      }
    }
    if (NORMALIZED) normalize((NORM ? mask : source) + start, mask + start, s, size, windows);
  }
}

// dd = -s g and, a part for each window, ds = -sum_k d g, with
//   g = m dm   or, NORMALIZED,   g = m (dm - sum_j m[j] dm[j]);   0 where an entry is removed
// Null pointers stand for what nobody needs. Only ds needs distances; with NORM 0 they also
// tell what is removed, and without it the gradient of the distance passes that over.
template <typename T, int NORM, bool NORMALIZED>
__global__ void attention_mask_backward(const T* __restrict__ dm, const T* __restrict__ source,
                                        const T* __restrict__ mask, T* __restrict__ dd,
                                        Accumulator<T>* __restrict__ ds,
                                        const T* __restrict__ scale, double scale_value,
                                        Window window, Index batch, int channels,
                                        int remove_center, int remove_bounds) {
  typedef Accumulator<T> A;
  constexpr int COUNT = TOGETHER<NORM>;
  const A s = scalar(scale, scale_value);
  const int windows = window.windows(), size = window.size();
  for (Index i = first_item(); i < batch * windows; i += item_step()) {
    const int p = i % windows;
    const Index n = i / windows, start = n * size * windows + p;
    A mean = 0, slope = 0;
    for (int k = 0; NORMALIZED && k < size; ++k) {
      const Index at = start + (Index)k * windows;
      mean += widen(mask[at]) * widen(dm[at]);
    }
    for (int k0 = 0; k0 < size; k0 += COUNT) {
      A d[COUNT] = {};
      if (NORM == 0 || ds)
        measure<NORM>(d, source, window, n, p, k0, channels, remove_center, remove_bounds);
      Index at = start + (Index)k0 * windows;
#pragma unroll
      for (int j = 0; j < COUNT; ++j, at += windows) {
        if (k0 + j >= size) break;
        const A g = isinf(d[j]) ? A(0) : widen(mask[at]) * (widen(dm[at]) - mean);
        if (!isinf(d[j])) slope -= d[j] * g;
        if (dd) dd[at] = T(-s * g);
      }
    }
    if (ds) ds[i] = slope;
  }
}
