"""`python -m farm.report` prints the JSON Schema of report.json, for docs/report.schema.json."""

import sys

from farm.report.document import schema

sys.stdout.write(schema())
