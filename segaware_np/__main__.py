"""``python -m segaware_np`` is the same as ``segaware``."""

import sys

from segaware_np.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
