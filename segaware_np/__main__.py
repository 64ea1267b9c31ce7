"""``python -m segaware_np`` is the same as ``segaware``."""

import sys

from segaware_np.cli import main

if __name__ == "__main__":
    sys.exit(main())
