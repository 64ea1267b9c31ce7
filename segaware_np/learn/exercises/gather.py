"""A CUDA kernel that gathers.

    forward:   y[p]  = sum_k m[k, p] x[p + delta_k]             (masked_sum in NumPy)
    backward:  dx[q] = sum_k m[k, q - delta_k] dy[q - delta_k]  over the q - delta_k in the image

x, dx, y, dy  (H, W), row by row in memory: dx[y, x] is dx[y * width + x]
mask          m, (9, H, W); offset k is row k / 3 - 1 and column k % 3 - 1 from the centre

On a GPU many threads run at once, in any order. If each window p *scattered* to its
nine pixels, two threads would write to one place. So each thread owns one pixel q and
*gathers*: it sums up what the windows say that see q, and writes dx[q] once. The kernel
is started with a few blocks of a few threads, fewer than there are pixels: the loop
given makes every thread take several. dx holds anything at the start. g++ runs the
kernel here, no GPU is needed.
"""

KERNEL = r"""
extern "C" __global__ void gather(const float* dy, const float* mask, float* dx,
                                  int height, int width) {
  const int first = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
  for (int q = first; q < height * width; q += step) {
    // Your turn: dx[q].
    float sum = 0;
    for (int k = 0; k < 9; ++k) {
      const int row = q / width - (k / 3 - 1), column = q % width - (k % 3 - 1);
      const int p = row * width + column;
      if (row >= 0 && row < height && column >= 0 && column < width)
        sum += mask[k * height * width + p] * dy[p];
    }
    dx[q] = sum;
  }
}
"""

HINT = """\
Row and column of q are q / width and q % width. For each k find row and column of p = q
- delta_k; if both are inside the image, add mask[k * height * width + p] * dy[p] to a
variable of the thread. Check the column as well as the row: p - 1 of the first column
is a pixel, too, of the row above."""

MISTAKES = [
    (
        "q / width - (k / 3 - 1), column = q % width - (k % 3 - 1)",
        "q / width + (k / 3 - 1), column = q % width + (k % 3 - 1)",
        "yours looks at q + delta_k, as forward does; the windows that see q under the offset k "
        "have their centre at q - delta_k",
    ),
    (
        "mask[k * height * width + p]",
        "mask[k * height * width + q]",
        "the mask is read at q; each window p has weighted q by its own mask, at p",
    ),
    (
        "row >= 0 && row < height && column >= 0 && column < width",
        "p >= 0 && p < height * width",
        "the columns are not checked: left of the first pixel of a row is the last of the row "
        "above, which is no neighbour",
    ),
    (
        "dx[q] = sum",
        "dx[q] += sum",
        "dx holds anything at the start: sum in a variable of the thread, and write dx[q] once. "
        "(To add to dx from several threads would be a race besides.)",
    ),
    (
        "row >= 0 && row < height && column >= 0 && column < width",
        "true",
        "the border is not checked: outside the image there is no window, and the memory there is "
        "none of yours",
    ),
    (
        "mask[k * height * width + p] * dy[p]",
        "dy[p]",
        "the mask is missing: a window hears of q only as much as it saw of it",
    ),
]

RESULTS = ("dx",)


def run(work, dy, mask):
    import numpy as np

    module, name = compiled(work.KERNEL)
    height, width = dy.shape
    dx = 1000 + np.arange(dy.size, dtype=dy.dtype).reshape(dy.shape)
    guarded = [np.pad(array.ravel(), 64, constant_values=np.nan) for array in (dy, mask, dx)]
    sizes = [np.int32(height), np.int32(width)]
    arguments = [*(array[64:-64] for array in guarded), *sizes]
    module.launch(name, (2,), (3,), arguments, seed=0)
    for array in guarded:
        if not np.isnan([array[:64], array[-64:]]).all():
            raise IndexError("the kernel writes outside its arrays")
    result = guarded[2][64:-64].reshape(dx.shape)
    return None if (result == dx).all() else result


KNOWN: dict = {}


def compiled(kernel):
    """Return a kernel's module and its name there; ours are compiled at once, which saves time."""
    from segaware_np.testing.cuda import emulate

    if not KNOWN:
        texts = [KERNEL, *(KERNEL.replace(old, new) for old, new, _ in MISTAKES)]
        named = [text.replace("gather(", f"gather{i}(") for i, text in enumerate(texts)]
        module = emulate.Module("".join(named))
        KNOWN.update({text: (module, f"gather{i}") for i, text in enumerate(texts)})
    return KNOWN.get(kernel) or (emulate.Module(kernel, name="KERNEL"), "gather")


def lacking():
    from segaware_np.testing.cuda import emulate

    return "" if emulate.compiler() else "no C++ compiler is here: install g++, or set CXX"


def draw(rng):
    height, width = rng.permutation([3, 4]) + rng.integers(0, 2)
    numbers = rng.integers(-4, 5, (10, height, width)).astype("float32")  # sums without rounding
    return numbers[0], numbers[1:]
