"""``python -m mlopsc`` is the command ``mlopsc``."""

from mlopsc.cli import main

if __name__ == "__main__":
    main()
