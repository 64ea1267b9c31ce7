"""What the operations must compute, as loops straight from the formulas, one number at a time.

Slow, and meant to be read next to the mathematics. Nothing here comes from `segaware_np.ops`: even
the arithmetic of windows is done again, from the fields of the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, exp, floor, inf, isinf, log

import numpy as np

from segaware_np.window import Window

# Windows.


def counts(size: tuple[int, int], window: Window) -> tuple[int, int]:
    """Number of windows along each axis."""
    h, w = (
        floor((n + 2 * p - (d * (k - 1) + 1)) / s) + 1
        for n, k, s, p, d in zip(
            size, window.kernel, window.stride, window.pad, window.dilation, strict=True
        )
    )
    return h, w


def taps(size: tuple[int, int], window: Window) -> Iterator[tuple]:
    """Yield ``(k, i, j, centre, neighbour)`` for every offset of every window.

    Pixels are ``(y, x)``, or None outside the image.
    """
    (sh, sw), (ph, pw), (dh, dw) = window.stride, window.pad, window.dilation
    kh, kw = window.kernel
    for i in range(counts(size, window)[0]):
        for j in range(counts(size, window)[1]):
            centre = _pixel(i * sh - ph + (kh // 2) * dh, j * sw - pw + (kw // 2) * dw, size)
            for u in range(kh):
                for v in range(kw):
                    neighbour = _pixel(i * sh - ph + u * dh, j * sw - pw + v * dw, size)
                    yield u * kw + v, i, j, centre, neighbour


def _pixel(y: int, x: int, size: tuple[int, int]) -> tuple[int, int] | None:
    return (y, x) if 0 <= y < size[0] and 0 <= x < size[1] else None


def im2col(x, window):
    n, c, *size = x.shape
    cols = np.zeros((n, c, window.kernel[0] * window.kernel[1], *counts(size, window)))
    for k, i, j, _, q in taps(size, window):
        if q is not None:
            cols[:, :, k, i, j] = x[:, :, q[0], q[1]]
    return cols


def col2im(cols, size, window):
    x = np.zeros((*cols.shape[:2], *size))
    for k, i, j, _, q in taps(size, window):
        if q is not None:
            x[:, :, q[0], q[1]] += cols[:, :, k, i, j]
    return x


# Distances and masks.


def distance(e, window, norm, remove_center, remove_bounds):
    n, _, *size = e.shape
    kh, kw = window.kernel
    d = np.zeros((n, kh * kw, *counts(size, window)))
    for k, i, j, p, q in taps(size, window):
        if p is None:
            d[:, k, i, j] = 0
        elif remove_center and k == (kh // 2) * kw + kw // 2:
            d[:, k, i, j] = inf
        elif q is None:
            d[:, k, i, j] = inf if remove_bounds else 0
        else:
            difference = e[:, :, p[0], p[1]] - e[:, :, q[0], q[1]]
            terms = np.abs(difference) if norm == "L1" else difference**2 / 2
            d[:, k, i, j] = terms.sum(1)
    return d


def distance_gradient(dd, e, window, norm, remove_center, remove_bounds):
    """Of ``<dd, distance>``, with sign(0) = 0 in L1."""
    size = e.shape[2:]
    kh, kw = window.kernel
    de = np.zeros(e.shape)
    for k, i, j, p, q in taps(size, window):
        removed = remove_center and k == (kh // 2) * kw + kw // 2
        if p is None or q is None or removed:
            continue
        difference = e[:, :, p[0], p[1]] - e[:, :, q[0], q[1]]
        slope = np.sign(difference) if norm == "L1" else difference
        de[:, :, p[0], p[1]] += dd[:, k, i, j, None] * slope
        de[:, :, q[0], q[1]] -= dd[:, k, i, j, None] * slope
    return de


def label_parity(labels, window, ignore_label):
    n, *size = labels.shape
    same = np.zeros((n, window.kernel[0] * window.kernel[1], *counts(size, window)), int)
    for k, i, j, p, q in taps(size, window):
        for b in range(n):
            mine = 0 if p is None else labels[b][p]
            other = 0 if q is None else labels[b][q]
            ignored = ignore_label is not None and (p is None or ignore_label in (mine, other))
            same[b, k, i, j] = ignore_label if ignored else mine == other
    return same


def exponential_mask(d, scale):
    m = np.zeros(d.shape)
    for at in np.ndindex(d.shape):
        m[at] = 0 if isinf(d[at]) else exp(-scale * d[at])
    return m


def normalized_mask(d, scale):
    m = np.zeros(d.shape)
    n, count, *shape = d.shape
    for b, i, j in np.ndindex(n, *shape):
        kept = [k for k in range(count) if not isinf(d[b, k, i, j])]
        for k in kept:
            others = (exp(scale * (d[b, k, i, j] - d[b, other, i, j])) for other in kept)
            m[b, k, i, j] = 1 / sum(others)
        if not kept:
            m[b, :, i, j] = 1 / count
    return m


# Convolutions.


def column_convolution(cols, weight, bias, groups):
    n, c, count, ho, wo = cols.shape
    o = weight.shape[0]
    flat = weight.reshape(o, c // groups, count)
    y = np.zeros((n, o, ho, wo))
    for out in range(o):
        first = (out // (o // groups)) * (c // groups)
        for c_in in range(c // groups):
            for k in range(count):
                y[:, out] += flat[out, c_in, k] * cols[:, first + c_in, k]
        if bias is not None:
            y[:, out] += bias[out]
    return y


def segaware_convolution(x, mask, weight, bias, window, groups):
    return column_convolution(im2col(x, window) * mask[:, None], weight, bias, groups)


def convolution(x, weight, bias, window, groups):
    return column_convolution(im2col(x, window), weight, bias, groups)


def transposed_convolution(x, weight, bias, size, window, groups):
    inputs, outputs = x.shape[1] // groups, weight.shape[1]
    y = np.zeros((len(x), groups * outputs, *size))
    for k, i, j, _, q in taps(size, window):
        for c in range(x.shape[1] if q is not None else 0):
            for o in range(outputs):
                w = weight[c, o].ravel()[k]
                y[:, c // inputs * outputs + o, q[0], q[1]] += w * x[:, c, i, j]
    return y if bias is None else y + bias[:, None, None]


def masked_sum(x, mask, window):
    y = np.zeros((*x.shape[:2], *counts(x.shape[2:], window)))
    for k, i, j, _, q in taps(x.shape[2:], window):
        if q is not None:
            y[:, :, i, j] += mask[:, k, i, j, None] * x[:, :, q[0], q[1]]
    return y


def bilateral_filter(x, embedding, scale, window, norm, remove_center, remove_bounds):
    d = distance(embedding, window, norm, remove_center, remove_bounds)
    return masked_sum(x, normalized_mask(d, scale), window)


def normalized_convolution(x, embedding, weight, bias, scale, window, groups, norm, *flags):
    mask = normalized_mask(distance(embedding, window, norm, *flags), scale)
    return segaware_convolution(x, mask, weight, bias, window, groups)


def dot_product(query, key, window, remove_bounds):
    n, _, *size = key.shape
    kh, kw = window.kernel
    s = np.zeros((n, kh * kw, *counts(size, window)))
    for k, i, j, p, q in taps(size, window):
        if q is None:
            s[:, k, i, j] = -inf if remove_bounds else 0
        elif p is not None:
            s[:, k, i, j] = (query[:, :, p[0], p[1]] * key[:, :, q[0], q[1]]).sum(1)
    return s


def neighborhood_attention(query, key, value, window, heads, bias):
    """One query, one head at a time, a softmax over those neighbours that there are."""
    n, channels, *size = key.shape
    seen = {}
    for k, i, j, p, q in taps(size, window):
        if p is not None:
            seen.setdefault((i, j), (p, []))[1].extend([] if q is None else [(k, q)])
    axes = zip(counts(size, window), size, window.kernel, window.stride, window.pad,
               window.dilation, strict=True)  # fmt: skip
    centred = [[a for a in range(c) if 0 <= a * s - p + (k // 2) * d < side]
               for c, side, k, s, p, d in axes]  # fmt: skip
    y = np.zeros((n, value.shape[1], *map(len, centred)))
    for b, h in np.ndindex(n, heads):
        mine = slice(h * (channels // heads), (h + 1) * (channels // heads))
        own = slice(h * (value.shape[1] // heads), (h + 1) * (value.shape[1] // heads))
        for (i, j), (p, neighbours) in seen.items():
            query_p = query[b, mine, p[0], p[1]]
            logits = []
            for k, q in neighbours:
                logit = query_p @ key[b, mine, q[0], q[1]] / (channels // heads) ** 0.5
                logits.append(logit + (0 if bias is None else bias[h].flat[k]))
            weights = [exp(logit - max(logits)) for logit in logits]
            for weight, (_, q) in zip(weights, neighbours, strict=True):
                share = weight / sum(weights)
                at = centred[0].index(i), centred[1].index(j)
                y[(b, own, *at)] += share * value[b, own, q[0], q[1]]
    return y


def mean_field(unary, first_q, f1, f2, ws, wb, wc, window1, window2, iterations):
    q = first_q
    for _ in range(iterations):
        p = softmax(q)
        a = bilateral_filter(p, f2, 1.0, window2, "L2", True, True)
        b = bilateral_filter(p, f1, 1.0, window1, "L2", True, True)
        message = np.einsum("dc,nchw->ndhw", ws, a) + np.einsum("dc,nchw->ndhw", wb, b)
        q = unary - np.einsum("dc,nchw->ndhw", wc, message)
    return q


def lattice_matrix(lattice):
    """What a lattice does, as one matrix: its parts are compared with the Gaussian elsewhere."""
    matrix = lattice.splat.toarray()
    for blur in lattice.blurs:
        matrix = blur.toarray() @ matrix
    return lattice.slice.toarray() @ matrix


def of_pixels(matrix, x):
    n, c, h, w = x.shape
    rows = x.transpose(1, 0, 2, 3).reshape(c, -1)
    return np.einsum("pq,cq->cp", matrix, rows).reshape(c, n, h, w).transpose(1, 0, 2, 3)


def dense_mean_field(unary, first_q, weights, wc, matrices, iterations):
    q = first_q
    for _ in range(iterations):
        p = softmax(q)
        filtered = [of_pixels(matrix, p) for matrix in matrices]
        q = unary - np.einsum("ab,kbc,kncij->naij", wc, weights, np.stack(filtered))
    return q


# Pooling and resizing.


def pooled(n, k, s, p, d):
    """Number of pooling windows along one axis, by Caffe's rounding."""
    count = ceil((n + 2 * p - (d * (k - 1) + 1)) / s) + 1
    return count - 1 if (count - 1) * s >= n + p else count


def pool(x, window, kind):
    n, c, *size = x.shape
    axes = list(zip(size, window.kernel, window.stride, window.pad, window.dilation, strict=True))
    y = np.zeros((n, c, *(pooled(*axis) for axis in axes)))
    for b, ch, i, j in np.ndindex(y.shape):
        values, area = [], 0
        for u in range(window.kernel[0]):
            for v in range(window.kernel[1]):
                at = [
                    i * window.stride[0] - window.pad[0] + u * window.dilation[0],
                    j * window.stride[1] - window.pad[1] + v * window.dilation[1],
                ]
                area += all(a < m + p for a, m, p in zip(at, size, window.pad, strict=True))
                if _pixel(*at, size):
                    values.append(x[b, ch, at[0], at[1]])
        y[b, ch, i, j] = max(values, default=-inf) if kind == "max" else sum(values) / area
    return y


def resize(x, size):
    n, c, h, w = x.shape
    y = np.zeros((n, c, *size))
    for i, j in np.ndindex(*size):
        a = i * (h - 1) / (size[0] - 1) if size[0] > 1 else 0.0
        b = j * (w - 1) / (size[1] - 1) if size[1] > 1 else 0.0
        for row in range(h):
            for column in range(w):
                weight = max(0.0, 1 - abs(a - row)) * max(0.0, 1 - abs(b - column))
                y[:, :, i, j] += weight * x[:, :, row, column]
    return y


# Losses.


def softmax(x):
    p = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        n, _, *rest = at
        p[at] = 1 / sum(exp(x[(n, other, *rest)] - x[at]) for other in range(x.shape[1]))
    return p


def cross_entropy(score, labels, ignore_label):
    total, valid = 0.0, 0
    for at in np.ndindex(labels.shape):
        n, *rest = at
        if labels[at] != ignore_label:
            mine = score[(n, labels[at], *rest)]
            total += log(sum(exp(score[(n, c, *rest)] - mine) for c in range(score.shape[1])))
            valid += 1
    return np.array(total / max(valid, 1))


def embedding_loss(d, parity, alpha, beta, hinge, ignore_label, normalize):
    total, valid = 0.0, 0
    for at in np.ndindex(d.shape):
        if isinf(d[at]) or (ignore_label is not None and parity[at] == ignore_label):
            continue
        valid += 1
        h = max(d[at] - alpha, 0) if parity[at] == 1 else max(beta - d[at], 0)
        total += h if hinge == "linear" else h * h / 2
    return np.array(total / max(d.size if normalize == "all" else valid, 1))


# One channel at a time.


def batch_norm(x, eps=1e-5):
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        mean = x[:, c].sum() / x[:, c].size
        variance = ((x[:, c] - mean) ** 2).sum() / x[:, c].size
        y[:, c] = (x[:, c] - mean) / (variance + eps) ** 0.5
    return y
