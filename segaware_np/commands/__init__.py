"""The commands of the ``segaware`` program, one a file.

Each module has ``add_command(subparsers)``, which declares the options and sets ``run`` to a
function that takes the parsed options.
"""
