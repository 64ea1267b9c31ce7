"""A small training run: imported by test_train, and run by it as a program that kills itself.

usage: training_run.py FOLDER ITERATIONS AFTER SECONDS [SIGNAL]

Resumes the run in FOLDER, does AFTER iterations, and sends itself a signal SECONDS after that: by
default SIGKILL.
"""

import os
import signal
import sys
import threading
import time

import numpy as np

from segaware_np import Net, Window, layers
from segaware_np.data import Loader
from segaware_np.optim import Adam
from segaware_np.policies import Polynomial
from segaware_np.train import Trainer


class Noise:
    """Five pictures of noise, labelled by what colour is strongest."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 256, (9, 12, 3), "uint8")
        return image, image.argmax(axis=2).astype("int32")


def make_net(filters=4, dtype="float32", frozen=False):
    net = Net(dtype=dtype, seed=7)
    lr_mult = 0.0 if frozen else 1.0
    conv = layers.Convolution(3, filters, Window.same(3), init=0.01, lr_mult=lr_mult)
    net.add("conv", conv, "image")
    net.add("relu", layers.ReLU(), "conv")
    net.add("drop", layers.Dropout(0.5), "relu")
    net.add("score", layers.Convolution(filters, 3, Window.same(1)), "drop")
    net.add("loss", layers.SoftmaxCrossEntropy(), "score", "label", weight=1.0)
    return net


def make_trainer(folder, iterations=12, net=None, optimizer=Adam, **options):
    net = net or make_net()
    loader = Loader(Noise(), batch=2, seed=3)
    learner = optimizer(net.parameters(), Polynomial(0.01, 100, 0.9), weight_decay=5e-4)
    options = {"batches": 2, "checkpoint_every": 4, "progress": False} | options
    return Trainer(net, learner, loader, folder=folder, iterations=iterations, **options)


def kill(trainer, after, seconds, number):
    """Wait for the moment, then send the signal: of SIGKILL no handler hears."""
    start = trainer.optimizer.iteration
    while trainer.optimizer.iteration < start + after:
        time.sleep(1e-4)
    time.sleep(seconds)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    folder, iterations, after, seconds, *number = sys.argv[1:]
    trainer = make_trainer(folder, int(iterations), checkpoint_every=2)
    trainer.resume()
    arguments = (trainer, int(after), float(seconds), *map(int, number or [signal.SIGKILL]))
    threading.Thread(target=kill, args=arguments, daemon=True).start()
    trainer.run(resume=True)
