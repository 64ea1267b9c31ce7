"""Image files written from their formats' specifications, without Pillow."""

import struct
import zlib

import numpy as np


def packed_rows(values, bits):
    """Each row of (H, W) numbers as bytes, the first number in the highest bits."""
    digits = ["".join(f"{v & (2**bits - 1):0{bits}b}" for v in row) for row in values.tolist()]
    padded = [line.ljust(-(-len(line) // 8) * 8, "0") for line in digits]
    return [int(row, 2).to_bytes(len(row) // 8, "big") for row in padded]


def png(values, bits, palette=None):
    """A PNG of (H, W) grey values or, with a palette, indices; or of (H, W, samples) numbers.

    Two samples are grey and opacity, three colours, four colours and opacity.
    """
    height, width, samples = np.atleast_3d(values).shape
    raw = b"".join(b"\0" + row for row in packed_rows(values.reshape(height, -1), bits))
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples] if palette is None else 3

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    colours = b"" if palette is None else chunk(b"PLTE", np.array(palette, np.uint8).tobytes())
    body = chunk(b"IHDR", header) + colours + chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff(values, bits, photometric=1, sample_format=1, extra=(), order=">", planes=False):
    """An uncompressed TIFF of one strip, or one a plane: (H, W) or (H, W, samples) numbers.

    photometric: 0 white is zero, 1 black is zero, 2 RGB, 6 YCbCr, 8 CIELAB; sample_format: 1
    unsigned, 2 signed, 3 floating point (then the values are the bits).
    """
    values = np.atleast_3d(values)
    height, width, samples = values.shape
    if planes:
        values = values.transpose(2, 0, 1)
    if bits % 8 == 0:
        whole = values.astype(np.int64) & (2**bits - 1)
        raw = whole.astype(f"{order}u{bits // 8}").tobytes()
    else:
        raw = b"".join(packed_rows(values.reshape(-1, values.size // height), bits))
    strips = samples if planes else 1
    size = len(raw) // strips
    tags = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * samples),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", [8 + i * size for i in range(strips)]),
        (277, "H", [samples]),
        (278, "I", [height]),
        (279, "I", [size] * strips),
        (284, "H", [2] * planes),
        (338, "H", list(extra)),
        (339, "H", [sample_format] * samples),
    ]
    tags = [tag for tag in tags if tag[2]]
    at, entries, overflow = 8 + len(raw), b"", b""
    after = at + 2 + 12 * len(tags) + 4
    for number, kind, content in tags:
        data = struct.pack(f"{order}{len(content)}{kind}", *content)
        if len(data) > 4:
            overflow, data = overflow + data, struct.pack(f"{order}I", after + len(overflow))
        entry = struct.pack(f"{order}HHI", number, {"H": 3, "I": 4}[kind], len(content))
        entries += entry + data.ljust(4, b"\0")
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, at)
    return head + raw + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4 + overflow
