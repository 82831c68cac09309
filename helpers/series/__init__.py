"""What runs the series and nobody copies."""

import sys

# nbformat has jsonschema import it, for a check of URIs that is never asked: a second, each time
sys.modules.setdefault("rfc3987_syntax", None)
