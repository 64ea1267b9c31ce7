"""Caffe's files as they are: networks, weights and solvers of the authors' fork.

>>> from segaware_np.caffe import Net
>>> net = Net('''input: "x" input_shape { dim: 2 }
...              layer { name: "y" type: "AbsVal" bottom: "x" top: "y" }''')
>>> net.forward(x=[-2.0, 3.0])["y"].tolist()
[2.0, 3.0]
"""

from segaware_np.caffe.layers.python import PythonLayer, register_layer
from segaware_np.caffe.net import Net
from segaware_np.caffe.solver import Solver

__all__ = ["Net", "PythonLayer", "Solver", "register_layer"]
