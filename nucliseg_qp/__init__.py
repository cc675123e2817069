"""nucliseg_qp: classified nuclei from immunohistochemistry images, inside QuPath.

The data flows image -> tiles -> keypoints -> masks -> classes -> measurements -> QuPath, and the
sub-packages are named after these steps.  Importing this package loads neither torch nor Java.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
