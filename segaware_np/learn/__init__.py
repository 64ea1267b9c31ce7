"""A course that grades: exercises in hand-written gradients, checked on this machine.

`find` gives an exercise, `check` judges a student's file, `check_all` a folder's, and `table` shows
the marks; ``segaware learn`` is all of it as a program. ``ORDER`` has the names of the exercises:
each is a module of `segaware_np.learn.exercises`.

Examples
--------
>>> from segaware_np import learn
>>> exercise = learn.find("relu")
>>> exercise.title
'ReLU and its kink.'
>>> open("relu.py", "w").write(exercise.file.replace("dx = None", "dx = dy * (x >= 0)")) > 0
True
>>> verdict = learn.check("relu.py")
>>> verdict.solved, verdict.mistakes
(False, ['all is right but where x is exactly 0: there the slope is to be 0, yours is 1'])
"""

from segaware_np.learn.exercise import Exercise, Mistake, find
from segaware_np.learn.exercises import ORDER
from segaware_np.learn.marks import check_all, submissions, table
from segaware_np.learn.process import check
from segaware_np.learn.progress import Progress
from segaware_np.learn.verdict import Verdict

__all__ = [
    "ORDER",
    "Exercise",
    "Mistake",
    "Progress",
    "Verdict",
    "check",
    "check_all",
    "find",
    "submissions",
    "table",
]
