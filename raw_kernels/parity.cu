// Label parity: which neighbours carry the label of a window's centre.
#include "common.cuh"

// same[n,k,p] = 1 if p and p+delta_k carry the same label, else 0.
//
//   labels (N, H, W), a pixel outside the image counting as label 0       same (N, K, Ho, Wo)
//
// With an ignore label, an entry that has it at either end *is* the ignore label, as is every
// entry of a window whose centre lies outside the image.
template <typename L>
__global__ void label_parity(const L* __restrict__ labels, L* __restrict__ same, Window window,
                             Index batch, int has_ignore, L ignore) {
  const int windows = window.windows(), size = window.size();
  for (Index i = first_item(); i < batch * size * windows; i += item_step()) {
    const int p = i % windows, k = i / windows % size;
    const L* image = labels + i / windows / size * window.pixels();
    const Place corner = window.corner(p);
    const int centre = window.centre(corner);
    const int q = window.neighbour(corner, k / window.kernel_w, k % window.kernel_w);
    const L a = centre < 0 ? L(0) : image[centre], b = q < 0 ? L(0) : image[q];
    const bool ignored = has_ignore && (centre < 0 || a == ignore || b == ignore);
    same[i] = ignored ? ignore : L(a == b);
  }
}
