"""CSV files read with the types that were declared for their columns, never with guessed ones."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from experiment.errors import UserError


def read_csv(path: Path, types: Mapping[str, type | str]) -> pd.DataFrame:
    """The columns that `types` names, of those types; an empty cell is missing where a number belongs, and "" in text.

    Raises UserError, naming the file, where it lacks a column or a cell is of another type.
    """
    numbers = {column: [""] for column, kind in types.items() if kind is not str}
    try:
        return pd.read_csv(path, usecols=list(types), dtype=dict(types), keep_default_na=False, na_values=numbers)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not readable as a table with the columns {', '.join(types)} ({said})") from None
