"""
Caffe's files, from the first to the last
=========================================

A segmentation-aware network written as in the authors' README, trained with a solver file on the
built-in scenes, saved as a caffemodel, and run on an image. Everything goes to the folder that is
the script's argument, or to a temporary one.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from segaware_np.caffe import Net, Solver
from segaware_np.caffe.labelling import label_image
from segaware_np.data import RGB_MEAN, Augmentation, Loader, SyntheticScenes
from segaware_np.images import write_image, write_labels

SMALL = os.environ.get("SEGAWARE_EXAMPLES") == "small"  # for a quick look, and for tests
SIDE, BATCH, ITERATIONS = (33, 2, 20) if SMALL else (97, 4, 400)
folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)

# sphinx_gallery_thumbnail_path = "results_segmentation.png"

# %%
# The network
# -----------
# An embedding of two convolutions; then convolutions whose windows listen to their centre's own
# region. Each is spelt out: distances, a learned scale, the mask, columns, their product, and a
# convolution of that product. ``${...}`` are filled in when the file is read.

BODY = """
layer { name: "emb1" type: "Convolution" bottom: "data" top: "emb1"
        param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 16 kernel_size: 3 pad: 1
                            weight_filler { type: "msra" } bias_filler { type: "constant" } } }
layer { name: "relu_emb1" type: "ReLU" bottom: "emb1" top: "emb1" }
layer { name: "emb" type: "Convolution" bottom: "emb1" top: "emb"
        convolution_param { num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
"""


def segaware(name: str, bottom: str, channels: int, outputs: int, dilation: int) -> str:
    window = f"kernel_size: 3 pad: {dilation} dilation: {dilation}"
    return f"""
layer {{ name: "{name}_dist" type: "Im2dist" bottom: "emb" top: "{name}_dist"
        convolution_param {{ {window} }} im2dist_param {{ norm: L1 }} }}
layer {{ name: "{name}_scale" type: "Scale" bottom: "{name}_dist" top: "{name}_scale"
        scale_param {{ num_axes: 0 filler {{ type: "constant" value: 0.05 }} }} }}
layer {{ name: "{name}_abs" type: "AbsVal" bottom: "{name}_scale" top: "{name}_abs" }}
layer {{ name: "{name}_mask" type: "Exp" bottom: "{name}_abs" top: "{name}_mask"
        exp_param {{ scale: -1 }} }}
layer {{ name: "{name}_tile" type: "Tile" bottom: "{name}_mask" top: "{name}_tile"
        tile_param {{ axis: 1 tiles: {channels} }} }}
layer {{ name: "{name}_col" type: "Im2col" bottom: "{bottom}" top: "{name}_col"
        convolution_param {{ {window} }} }}
layer {{ name: "{name}_hit" type: "Eltwise" bottom: "{name}_col" bottom: "{name}_tile"
        top: "{name}_hit" eltwise_param {{ operation: PROD }} }}
layer {{ name: "{name}" type: "Convolution" bottom: "{name}_hit" top: "{name}"
        param {{ lr_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
        convolution_param {{ num_output: {outputs} {window} bottom_is_im2col: true
                            weight_filler {{ type: "msra" }} }} }}
"""


DATA = 'input: "data" input_shape { dim: ${BATCH} dim: 3 dim: ${SIDE} dim: ${SIDE} }\n'
LABEL = 'input: "label" input_shape { dim: ${BATCH} dim: 1 dim: ${SIDE} dim: ${SIDE} }\n'
BODY += (
    segaware("conv1", "data", 3, 24, 1)
    + 'layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }\n'
    + segaware("conv2", "conv1", 24, 32, 3)
    + 'layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }\n'
    + segaware("score", "conv2", 32, 6, 6)
)
LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
        loss_param { ignore_label: 255 } }
"""
(folder / "train.prototxt").write_text(DATA + LABEL + BODY + LOSS, encoding="utf-8")
(folder / "deploy.prototxt").write_text(DATA + BODY, encoding="utf-8")
(folder / "solver.prototxt").write_text(
    f'train_net: "{folder / "train.prototxt"}" type: "Adam" base_lr: 0.002 lr_policy: "poly"\n'
    f"power: 0.9 momentum: 0.9 max_iter: {ITERATIONS} weight_decay: 0.0005 display: 20\n"
    f'snapshot_prefix: "{folder / "scenes"}" random_seed: 1\n',
    encoding="utf-8",
)
variables = {"BATCH": BATCH, "SIDE": SIDE}
net = Net(folder / "deploy.prototxt", variables=variables)
print(net.summary())

# %%
# Training
# --------
# The scenes are handed over batch by batch, as BGR minus the mean, as Caffe has its images.

augmentation = Augmentation(crop=SIDE, mirror=True, order="bgr", mean=RGB_MEAN)
batches = iter(Loader(SyntheticScenes(400, (128, 128)), BATCH, augmentation))


def feed() -> dict[str, np.ndarray]:
    batch = next(batches)
    return {"data": batch["image"], "label": batch["label"][:, None]}


solver = Solver(folder / "solver.prototxt", variables=variables, log=print)
solver.solve(feed)

# %%
# Use
# ---
# The snapshot holds the weights; the deploy network takes them, and any image.

weights = folder / f"scenes_iter_{ITERATIONS}.caffemodel"
net = Net(folder / "deploy.prototxt", weights, variables=variables)
image, truth = SyntheticScenes(1, (SIDE, SIDE), seed=7)[0]
labels = label_image(net, "score", image)
write_image(folder / "scene.png", image)
write_labels(folder / "labels.png", labels)
right = (labels == truth)[truth != 255].mean()
print(f"{right:.1%} of the pixels of a new scene are right; see {folder}")
