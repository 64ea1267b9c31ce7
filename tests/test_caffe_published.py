"""The published networks: structure and names, and the same numbers fused and layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from published import (
    PRESETS,
    embedding_network,
    segaware_resnet101,
    segaware_vgg16,
)

from segaware_np.caffe import Net
from segaware_np.caffe.fusion import FusedStep

RNG = np.random.default_rng(2)
SMALL = {
    "embeddings": embedding_network(1 / 16, 65, embedding=4),
    "vgg16": segaware_vgg16(1 / 16, 65),
    "resnet101": segaware_resnet101(1 / 16, 65, blocks=(1, 1, 2, 3)),
}
FUSED = {"embeddings": 3, "vgg16": 14, "resnet101": 0}


def batch(size: int) -> dict[str, np.ndarray]:
    labels = RNG.integers(0, 21, (1, 1, size, size))
    labels[..., :7] = 255
    return {"data": RNG.normal(0, 40, (1, 3, size, size)), "label": labels}


@pytest.mark.parametrize("name", SMALL)
def test_fused_and_literal_agree(name: str) -> None:
    nets = [Net(SMALL[name], phase="TEST", dtype="float64", fuse=fuse) for fuse in (True, False)]
    arrays = batch(65)
    for net in nets:
        net.forward(arrays)
        net.backward()
    fused, literal = nets
    assert sum(isinstance(s, FusedStep) for s in fused._engine.steps) == FUSED[name]
    assert fused.loss == pytest.approx(literal.loss, rel=1e-12)
    for key, blob in literal.learned().items():
        largest = max(np.abs(blob.diff).max(), 1e-12)
        np.testing.assert_allclose(
            fused.learned()[key].diff, blob.diff, 1e-9, 1e-9 * largest, err_msg=key
        )
    for key in list(literal.blobs)[::7]:
        np.testing.assert_allclose(
            fused.blobs[key].data, literal.blobs[key].data, 1e-9, 1e-9, err_msg=key
        )


def test_sizes_of_the_published_networks() -> None:
    """Parameters and shapes as the papers and the authors' files have them."""
    vgg = Net(segaware_vgg16())
    assert vgg.params["conv5_3"][0].shape == (512, 512, 3, 3)
    assert vgg.params["weighted_emb_dist1_1"][0].shape == ()
    assert vgg.blobs["fc8_voc12"].shape == (1, 21, 41, 41)
    convolutions = sum(b.data.size for name, p in vgg.params.items() for b in p
                       if name.startswith("conv"))
    assert convolutions == 14_714_688  # VGG-16's
    embeddings = Net(embedding_network())
    assert embeddings.params["weighted_avg"][0].shape == (64, 3 + 2 * 64 + 2 * 128 + 256, 1, 1)


def test_structure_of_the_resnet() -> None:
    net = Net(segaware_resnet101(1 / 32, 65))
    names = [step.layer.name for step in net._graph.steps]
    for name in ("res2c_branch2a", "res3b3", "res4b22_branch2c_res05", "bn5c_branch2b_res075"):
        assert name in names
    assert net.params["res4b7_branch2b"][0] is net.params["res4b7_branch2b_res05"][0]
    learned = [name for name, blob in net.learned().items() if blob.lr_mult]
    assert [name for name in learned if not name.startswith("emb")] == [
        "scaled_xy[0]", "scaled_emb[0]", "scaled_xy2[0]", "crf[0]", "crf[1]", "crf[2]"]
    assert net.blobs["crf"].shape == (1, 21, 33, 33)
    assert net.blobs["fc_fusion"].shape == (1, 21, 9, 9)


def test_presets_and_sizes() -> None:
    assert Net(segaware_vgg16(PRESETS["tiny"], 33, train=False)).inputs == ["data"]
    for size in (32, 64, 1):
        with pytest.raises(ValueError, match="expected 32 k - 31"):
            segaware_vgg16(size=size)


def test_training_learns_something(tmp_path: Path) -> None:
    """A few iterations lower the loss; what was learned survives the file."""
    from segaware_np.caffe import Solver

    net = Net(SMALL["vgg16"], phase="TRAIN", seed=1)
    solver = Solver('type: "Adam" base_lr: 0.003 lr_policy: "fixed" momentum: 0.9', net=net)
    arrays = batch(65)
    arrays["label"][...] = (arrays["data"][:, :1] > 0) * 1
    first = solver.step(1, lambda: arrays)
    assert solver.step(15, lambda: arrays) < first - 0.5
    path = tmp_path / "net.caffemodel"
    net.save(path)
    use = [Net(segaware_vgg16(1 / 16, 65, train=False), path) for _ in range(2)]
    a, b = (n.forward(data=arrays["data"])["fc8_voc12"] for n in use)
    np.testing.assert_array_equal(a, b)
