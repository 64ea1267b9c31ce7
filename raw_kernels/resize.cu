// Bilinear resize with aligned corners, and its exact adjoint.
//
//   x, dx  (planes, height, width)     y, dy  (planes, out_height, out_width)
//
// Output pixel i of an axis lies at i (in - 1) / (out - 1): between two input pixels. Integer
// arithmetic puts those that fall on a pixel exactly there.
#include "common.cuh"

template <typename A> struct Sample {
  int below, above;
  A weight;  // of `above`; `below` has the rest

  __device__ Sample(int i, int length, int size) {
    const Index position = (Index)i * (length - 1);
    const int steps = max(size - 1, 1);
    below = position / steps;
    above = min(below + 1, length - 1);
    weight = A(position % steps) / steps;
    if (weight == 0) above = below;  // lest a NaN there be used
  }
  // What input pixel q contributes to this output pixel.
  __device__ A of(int q) const {
    return (below == q ? 1 - weight : A(0)) + (above == q ? weight : A(0));
  }
};

// The first and the last output pixel that can sample input pixel q.
__device__ __forceinline__ int first_sample(int q, int length, int size) {
  return length == 1 || q == 0 ? 0 : Index(q - 1) * (size - 1) / (length - 1);
}
__device__ __forceinline__ int last_sample(int q, int length, int size) {
  return length == 1 ? size - 1 : min(Index(size - 1), Index(q + 1) * (size - 1) / (length - 1));
}

template <typename T>
__global__ void resize(const T* __restrict__ x, T* __restrict__ y, Index planes, int height,
                       int width, int out_height, int out_width) {
  typedef Accumulator<T> A;
  for (Index i = first_item(); i < planes * out_height * out_width; i += item_step()) {
    const Sample<A> row(i / out_width % out_height, height, out_height);
    const Sample<A> col(i % out_width, width, out_width);
    const T* image = x + i / out_width / out_height * height * width;
    const T* top = image + (Index)row.below * width;
    const T* bottom = image + (Index)row.above * width;
    const A above = widen(top[col.below]) * (1 - col.weight) + widen(top[col.above]) * col.weight;
    const A under =
        widen(bottom[col.below]) * (1 - col.weight) + widen(bottom[col.above]) * col.weight;
    y[i] = T(above * (1 - row.weight) + under * row.weight);
  }
}

template <typename T>
__global__ void resize_backward(const T* __restrict__ dy, T* __restrict__ dx, Index planes,
                                int height, int width, int out_height, int out_width) {
  typedef Accumulator<T> A;
  for (Index i = first_item(); i < planes * height * width; i += item_step()) {
    const int q = i / width % height, r = i % width;
    const T* image = dy + i / width / height * out_height * out_width;
    const int top = first_sample(q, height, out_height);
    const int bottom = last_sample(q, height, out_height);
    const int left = first_sample(r, width, out_width);
    const int right = last_sample(r, width, out_width);
    A sum = 0;
    for (int row = top; row <= bottom; ++row) {
      const A share = Sample<A>(row, height, out_height).of(q);
      for (int col = left; col <= right; ++col)
        if (const A weight = share * Sample<A>(col, width, out_width).of(r))
          sum += weight * widen(image[(Index)row * out_width + col]);
    }
    dx[i] = T(sum);
  }
}
