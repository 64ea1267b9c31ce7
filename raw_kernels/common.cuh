// What every kernel in this folder shares: arithmetic in three precisions, 64-bit flat
// indices, grid-stride loops, and the geometry of a sliding window.
//
// Reading guide. Every kernel *gathers*: one thread owns one output and collects what
// belongs to it. No two threads write to one place, so there are no atomics and the sums
// come out the same, bit for bit, in every run.
#pragma once

typedef long long Index;  // flat indices: an array may hold more than 2^31 elements

// ---- float16 is a storage format only: sums are kept in float32 ------------------------
template <typename T> struct AccumulatorOf { typedef T type; };
template <typename T> using Accumulator = typename AccumulatorOf<T>::type;

__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(float v) { return v; }

#ifdef HALF  // kernels of other types compile without CUDA's headers
#include <cuda_fp16.h>
template <> struct AccumulatorOf<__half> { typedef float type; };
__device__ __forceinline__ float widen(__half v) { return __half2float(v); }
#endif

template <typename A> __device__ __forceinline__ A infinity() {
  return A(__int_as_float(0x7f800000));
}

// A number that lies on the device or, if that is null, comes as a value of the launch.
template <typename T>
__device__ __forceinline__ Accumulator<T> scalar(const T* on_device, double value) {
  return on_device ? widen(*on_device) : Accumulator<T>(value);
}

// ---- grid-stride loop: for (Index i = first_item(); i < total; i += item_step()) -------
__device__ __forceinline__ Index first_item() {
  return (Index)blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ Index item_step() { return (Index)gridDim.x * blockDim.x; }

// ---- sliding windows -------------------------------------------------------------------
// A pixel is named by its flat index in the image plane, a window by its flat index in the
// output plane, an offset by k = row * kernel_w + col. -1 stands for "there is none".
struct Place { int y, x; };

__device__ __forceinline__ int exact_quotient(int value, int divisor) {
  if (divisor == 1) return value;  // the usual stride: spare the division
  return value % divisor ? -1 : value / divisor;
}

struct Window {
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int height, width;          // of the image
  int out_height, out_width;  // of the output: one window each

  __device__ int size() const { return kernel_h * kernel_w; }
  __device__ int pixels() const { return height * width; }
  __device__ int windows() const { return out_height * out_width; }

  // Where the first offset (row 0, column 0) of window p lies; may be outside the image.
  __device__ Place corner(int p) const {
    return {p / out_width * stride_h - pad_h, p % out_width * stride_w - pad_w};
  }
  __device__ int pixel(int y, int x) const {
    const bool inside = (unsigned)y < (unsigned)height && (unsigned)x < (unsigned)width;
    return inside ? y * width + x : -1;
  }
  // The pixel under offset (row, col) of the window with this corner.
  __device__ int neighbour(Place corner, int row, int col) const {
    return pixel(corner.y + row * dilation_h, corner.x + col * dilation_w);
  }
  __device__ int centre(Place corner) const {
    return neighbour(corner, kernel_h / 2, kernel_w / 2);
  }
  // The inverse question, which gradients ask: the window that sees pixel (y, x) under
  // offset (row, col). At most one does.
  __device__ int seen_from(int y, int x, int row, int col) const {
    const int down = y + pad_h - row * dilation_h, right = x + pad_w - col * dilation_w;
    if (down < 0 || right < 0) return -1;
    const int i = exact_quotient(down, stride_h), j = exact_quotient(right, stride_w);
    const bool exists = i >= 0 && j >= 0 && i < out_height && j < out_width;
    return exists ? i * out_width + j : -1;
  }
};
