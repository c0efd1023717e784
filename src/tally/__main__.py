"""`python -m tally` is the command `tally`."""

import sys

from tally.cli.main import main

sys.exit(main())
