"""`python -m tidegate.client.host`."""

import sys

from tidegate.client.host.command import main

sys.exit(main())
