"""Numbers to what people read: tables, captions, plots, the page."""

import os

os.environ["MPLBACKEND"] = "Agg"  # matplotlib refuses to be imported with a backend that only a notebook has
