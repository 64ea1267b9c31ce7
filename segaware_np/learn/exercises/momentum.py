"""One step of SGD with momentum by Caffe's rule.

    g' = g + decay w          weight decay is part of the gradient
    v' = momentum v + lr g'   the learning rate is inside
    w' = w - v'

w, g, v, w', v'      arrays of one shape: weight, its gradient, velocity
lr, momentum, decay  numbers

Other frameworks keep the learning rate outside, v' = momentum v + g' and w' = w - lr
v'. That is the same until lr changes. What is given must stay as it is: return new
arrays.
"""


def step(w, g, v, lr, momentum, decay):
    """Return w', v'."""
    # Your turn: the new weight and the new velocity.
    velocity = momentum * v + lr * (g + decay * w)
    weight = w - velocity
    return weight, velocity


HINT = """\
Three lines, as the formula has them. Make v' first, then take it off w. `v *= momentum`
would change the array that was given; `momentum * v` makes a new one."""

MISTAKES = [
    (
        "velocity = momentum * v + lr * (g + decay * w)\n    weight = w - velocity",
        "velocity = momentum * v + (g + decay * w)\n    weight = w - lr * velocity",
        "that is PyTorch's rule, with the learning rate outside; by Caffe's it is inside the "
        "velocity",
    ),
    (
        "(g + decay * w)",
        "g",
        "the weight decay is missing: decay w is added to the gradient",
    ),
    (
        "lr * (g + decay * w)",
        "lr * g + decay * w",
        "the learning rate multiplies the weight decay, too: decay w is part of the gradient",
    ),
    (
        "weight = w - velocity",
        "weight = w + velocity",
        "the weight goes uphill: subtract the velocity",
    ),
    (
        "weight = w - velocity",
        "weight = w - v",
        "the weight follows the old velocity; the step is made with the new one (made with the "
        "old one, every gradient comes a step late)",
    ),
    (
        "lr * (g + decay * w)",
        "(1 - momentum) * lr * (g + decay * w)",
        "yours damps the gradient by 1 - momentum, as a running mean does; Caffe's rule does not",
    ),
]

RESULTS = ("weight", "velocity")


def run(work, *arguments):
    return work.step(*arguments)


def draw(rng):
    shape = rng.integers(2, 4, 2)
    lr, momentum, decay = rng.uniform([0.1, 0.5, 0.1], [0.5, 0.9, 0.5]).tolist()
    return *rng.normal(size=(3, *shape)), lr, momentum, decay
