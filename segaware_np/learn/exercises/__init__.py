"""The exercises of ``segaware learn``, one a file, in the order of ``ORDER``.

An exercise is a module that computes. What stands above its ``HINT`` is the student's file: a
docstring with the formula and the shapes, the forward pass, and last the answer, whose lines
below "Your turn" the student does not get. Below it, for the engine:

* ``HINT``, a text.
* ``MISTAKES``, triples ``(old, new, message)``. With ``old`` in the answer replaced by ``new``, the
  answer is wrong in a way that people are; whoever computes the same gets the message.
* ``draw(rng)``, which returns arguments of ``forward``, with sizes of their own each time.
* ``large(rng)``, if there is one, returns larger arguments and how many bytes the answer may
  allocate for them.
* ``lacking()``, if there is one, returns what the machine lacks for the check.
* ``RESULTS`` and ``run(work, *arguments)``, if the answer is no ``backward``: the names of what it
  computes, and how it is called in the student's module.
"""

__all__ = ["ORDER"]

ORDER = (
    "linear",
    "relu",
    "twice",
    "softmax",
    "im2col",
    "product",
    "stride",
    "pooling",
    "distance",
    "exponential",
    "normalized",
    "segaware",
    "lean",
    "contrastive",
    "mean_field",
    "gather",
    "momentum",
)
