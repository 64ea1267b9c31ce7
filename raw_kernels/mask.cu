// Local attention masks from distances, and their gradients.
//
//   exponential   m[n,k,p] = exp(-s d[n,k,p])
//   NORMALIZED    m[n,k,p] = exp(-s d[n,k,p]) / sum_j exp(-s d[n,j,p])
//
//   d, m, dm, dd  (N, K, windows)      d is infinite where an entry is removed: weight 0
//
// One thread owns one window and walks over its K entries; neighbouring threads read
// neighbouring windows.
#include "common.cuh"

// The scale: one number on the device, or if that is null a value of the launch.
template <typename T>
__device__ __forceinline__ Accumulator<T> scale_of(const T* on_device, double value) {
  return on_device ? widen(*on_device) : Accumulator<T>(value);
}

template <typename T, bool NORMALIZED>
__global__ void attention_mask(const T* __restrict__ d, T* __restrict__ mask,
                               const T* __restrict__ scale, double scale_value, Index batch,
                               int size, int windows) {
  typedef Accumulator<T> A;
  const A s = scale_of(scale, scale_value);
  for (Index i = first_item(); i < batch * windows; i += item_step()) {
    const Index start = i / windows * size * windows + i % windows;
    // A softmax is computed relative to its largest exponent, so that nothing overflows.
    A top = -infinity<A>(), sum = 0;
    for (int k = 0; NORMALIZED && k < size; ++k) {
      const A distance = widen(d[start + (Index)k * windows]);
      if (!isinf(distance) && !(-s * distance <= top)) top = -s * distance;
    }
    for (int k = 0; NORMALIZED && k < size; ++k) {
      const A distance = widen(d[start + (Index)k * windows]);
      if (!isinf(distance)) sum += exp(-s * distance - top);
    }
    const bool empty = NORMALIZED && isinf(top) && sum == 0;  // all removed: a uniform window
    for (int k = 0; k < size; ++k) {
      const A distance = widen(d[start + (Index)k * windows]);
      A weight = isinf(distance) ? A(0) : exp(-s * distance - (NORMALIZED ? top : A(0)));
      if (NORMALIZED) weight = empty ? A(1) / size : weight / sum;
      mask[start + (Index)k * windows] = T(weight);
    }
  }
}

// dd = -s g and, a part for each window, ds = -sum_k d g, with
//   g = m dm   or, NORMALIZED,   g = m (dm - sum_j m[j] dm[j]);   0 where an entry is removed
template <typename T, bool NORMALIZED>
__global__ void attention_mask_backward(const T* __restrict__ dm, const T* __restrict__ d,
                                        const T* __restrict__ mask, T* __restrict__ dd,
                                        Accumulator<T>* __restrict__ ds,
                                        const T* __restrict__ scale, double scale_value,
                                        Index batch, int size, int windows) {
  typedef Accumulator<T> A;
  const A s = scale_of(scale, scale_value);
  for (Index i = first_item(); i < batch * windows; i += item_step()) {
    const Index start = i / windows * size * windows + i % windows;
    A mean = 0, slope = 0;
    for (int k = 0; NORMALIZED && k < size; ++k) {
      const Index at = start + (Index)k * windows;
      mean += widen(mask[at]) * widen(dm[at]);
    }
    for (int k = 0; k < size; ++k) {
      const Index at = start + (Index)k * windows;
      const A distance = widen(d[at]);
      const A g = isinf(distance) ? A(0) : widen(mask[at]) * (widen(dm[at]) - mean);
      if (!isinf(distance)) slope -= distance * g;
      dd[at] = T(-s * g);
    }
    ds[i] = slope;
  }
}
