// The part of CUDA's cuda_fp16.h that kernels commonly use, on g++'s _Float16.
#pragma once
struct __half {
  _Float16 value;
  __half() = default;
  __half(float v) : value(v) {}
  __half(double v) : value(v) {}
  __half(int v) : value(v) {}
  operator float() const { return value; }
};
typedef __half half;
inline float __half2float(__half v) { return v.value; }
inline __half __float2half(float v) { return __half(v); }
inline __half __float2half_rn(float v) { return __half(v); }
inline unsigned short __half_as_ushort(__half v) { return __builtin_bit_cast(unsigned short, v); }
inline __half __ushort_as_half(unsigned short bits) { return __builtin_bit_cast(__half, bits); }
