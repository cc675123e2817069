"""``python -m nucliseg_qp`` is the same as ``nucliseg-qp``."""

from nucliseg_qp.cli import main

if __name__ == "__main__":
    main()
