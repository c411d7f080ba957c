"""CSV files read and written with the columns that were declared for them, never with guessed ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.columns import FILES, names
from experiment.errors import UserError


def read_csv(path: Path, types: Mapping[str, type | str], later: Sequence[str] = ()) -> pd.DataFrame:
    """The columns that `types` names, of those types; an empty cell is missing where a number belongs, and "" in text.

    later: of them those that files may lack which were made before there was such a column; they are then empty.
    Raises UserError, naming the file, where it lacks another column or a cell is of another type.
    """
    numbers = {column: [""] for column, kind in types.items() if kind is not str}
    try:
        there = pd.read_csv(path, nrows=0).columns
        read = {column: kind for column, kind in types.items() if column in there or column not in later}
        found = pd.read_csv(path, usecols=list(read), dtype=read, keep_default_na=False, na_values=numbers)
        return found.reindex(columns=list(types))
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not readable as a table with the columns {', '.join(types)} ({said})") from None


def to_csv(file: str, frame: pd.DataFrame, attacks: Sequence[str] = ()) -> str:
    """The text of one of the files that analysis/columns.py declares.

    attacks: of the suite, after which columns are named. Raises ValueError where a column is not declared.
    """
    declared = set(names(FILES[file][1], attacks))
    if unknown := [column for column in frame.columns if column not in declared]:
        raise ValueError(f"{file}: the column {unknown[0]!r} is not declared in analysis/columns.py")
    text: str = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    return text
