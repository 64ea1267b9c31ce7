"""The commands of the ``segaware`` program, one a file.

Each module has ``add_arguments(parser)``, which describes the command, declares its arguments and
sets ``run`` to a function that takes the parsed options.
"""
