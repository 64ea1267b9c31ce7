// Softmax over channels, its cross-entropy with labels, and the hinge loss of embeddings.
//
//   x, p, dx  (N, C, pixels)     labels, nll  (N, pixels)
//
// One thread owns one pixel and walks over its channels; neighbouring threads read neighbouring
// pixels. Losses are left as a number a pixel: their sum is the array module's.
#include "common.cuh"

// p[c] = exp(x[c]) / sum_d exp(x[d]), channels lying `step` apart.
template <typename T>
__device__ __forceinline__ void softmax_of(const T* x, T* p, int channels, int step) {
  typedef Accumulator<T> A;
  // Relative to its largest exponent, so that nothing overflows.
  A top = -infinity<A>(), sum = 0;
  for (int c = 0; c < channels; ++c) top = max(top, widen(x[(Index)c * step]));
  for (int c = 0; c < channels; ++c) sum += exp(widen(x[(Index)c * step]) - top);
  for (int c = 0; c < channels; ++c)
    p[(Index)c * step] = T(exp(widen(x[(Index)c * step]) - top) / sum);
}

template <typename T>
__global__ void softmax(const T* __restrict__ x, T* __restrict__ p, Index batch, int channels,
                        int pixels) {
  for (Index i = first_item(); i < batch * pixels; i += item_step()) {
    const Index start = i / pixels * channels * pixels + i % pixels;
    softmax_of(x + start, p + start, channels, pixels);
  }
}

// dx = p (dp - sum_c p dp)
template <typename T>
__global__ void softmax_backward(const T* __restrict__ dp, const T* __restrict__ p,
                                 T* __restrict__ dx, Index batch, int channels, int pixels) {
  for (Index i = first_item(); i < batch * pixels; i += item_step()) {
    const Index start = i / pixels * channels * pixels + i % pixels;
    Accumulator<T> mean = 0;
    for (int c = 0; c < channels; ++c) {
      const Index at = start + (Index)c * pixels;
      mean += widen(p[at]) * widen(dp[at]);
    }
    for (int c = 0; c < channels; ++c) {
      const Index at = start + (Index)c * pixels;
      dx[at] = T(widen(p[at]) * (widen(dp[at]) - mean));
    }
  }
}

// nll = -log p[label], at most -log of the smallest number; NaN where the label is no class.
template <typename T, typename L>
__global__ void cross_entropy(const T* __restrict__ score, const L* __restrict__ labels, T* p,
                              Accumulator<T>* __restrict__ nll, double smallest, Index batch,
                              int channels, int pixels) {
  typedef Accumulator<T> A;
  for (Index i = first_item(); i < batch * pixels; i += item_step()) {
    const Index start = i / pixels * channels * pixels + i % pixels;
    softmax_of(score + start, p + start, channels, pixels);
    const Index label = labels[i];
    const bool known = label >= 0 && label < channels;
    const A chosen = widen(p[start + (known ? label : 0) * pixels]);
    nll[i] = known ? -log(chosen < A(smallest) ? A(smallest) : chosen) : A(0) * infinity<A>();
  }
}

// dscore[c] = (p[c] - [label == c]) factor; 0 where the pixel does not count, even for NaN
template <typename T, typename L>
__global__ void cross_entropy_backward(const T* __restrict__ p, const L* __restrict__ labels,
                                       const Accumulator<T>* __restrict__ factor,
                                       T* __restrict__ dscore, Index batch, int channels,
                                       int pixels) {
  for (Index i = first_item(); i < batch * pixels; i += item_step()) {
    const Index start = i / pixels * channels * pixels + i % pixels, label = labels[i];
    for (int c = 0; c < channels; ++c) {
      const Index at = start + (Index)c * pixels;
      const Accumulator<T> slope = widen(p[at]) - Accumulator<T>(label == c);
      dscore[at] = factor[i] == 0 ? T(0.f) : T(slope * factor[i]);
    }
  }
}

// By how much each pair of pixels breaks its rule, with the sign of dL/dd:
//
//   violation[n,k,p] = + max(d - alpha, 0)   for a pair of one label (parity 1)
//                      - max(beta - d, 0)    for another pair
//                      0                     where d is infinite, or the parity to be ignored
//   loss[n,p] = sum_k |violation|   or, SQUARED,   1/2 sum_k violation^2
//   valid[n,p] = number of pairs that are not left out
template <typename T, typename L>
__global__ void hinge_loss(const T* __restrict__ d, const L* __restrict__ parity,
                           T* __restrict__ violation, Accumulator<T>* __restrict__ loss,
                           int* __restrict__ valid, double alpha, double beta, int squared,
                           int has_ignore, Index ignore, Index batch, int size, int windows) {
  typedef Accumulator<T> A;
  for (Index i = first_item(); i < batch * windows; i += item_step()) {
    const Index start = i / windows * size * windows + i % windows;
    A sum = 0;
    int count = 0;
    for (int k = 0; k < size; ++k) {
      const Index at = start + (Index)k * windows, kind = parity[at];
      const A distance = widen(d[at]);
      const bool counts = !isinf(distance) && !(has_ignore && kind == ignore);
      const A beyond = kind == 1 ? distance - A(alpha) : A(beta) - distance;
      const A broken = counts && !(beyond <= 0) ? beyond : A(0);  // NaN breaks every rule
      violation[at] = T(kind == 1 ? broken : -broken);
      sum += squared ? broken * broken / 2 : broken;
      count += counts;
    }
    loss[i] = sum;
    valid[i] = count;
  }
}

// dd = factor violation   or, of the linear hinge,   factor sign(violation)
template <typename T>
__global__ void hinge_loss_backward(const T* __restrict__ violation, T* __restrict__ dd,
                                    const Accumulator<T>* __restrict__ factor,
                                    double factor_value, int squared, Index size) {
  typedef Accumulator<T> A;
  const A scale = scalar(factor, factor_value);
  for (Index i = first_item(); i < size; i += item_step()) {
    const A v = widen(violation[i]);
    dd[i] = T(scale * (squared || isnan(v) ? v : A((v > 0) - (v < 0))));
  }
}
