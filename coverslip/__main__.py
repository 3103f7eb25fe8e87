"""``python -m coverslip``: the command line."""

import sys

from coverslip.cli import main

sys.exit(main())
