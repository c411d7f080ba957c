"""How a table looks as CSV, Markdown, LaTeX and on a terminal, and how its numbers are written."""

from dataclasses import dataclass

import pandas as pd

from evaluation.captions import NOTHING
from evaluation.statistics import Summary

NAMES = ["dataset", "base", "variant"]
LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
    }
)


@dataclass(frozen=True)
class Table:
    """One table: `data` has each number in a column of its own; `shown`, and `latex` where it is narrower, is text.

    detail: what a page of Markdown shows on demand, None for nothing.
    """

    name: str
    caption: str
    notes: list[str]
    data: pd.DataFrame
    shown: pd.DataFrame
    latex: pd.DataFrame
    detail: pd.DataFrame | None

    def files(self) -> dict[str, str]:
        """Contents by file name: `<name>.csv`, `<name>.md` and `<name>.tex`."""
        return {
            f"{self.name}.csv": self.data.to_csv(index=False, float_format="%.10g", lineterminator="\n"),
            f"{self.name}.md": self._to_markdown(),
            f"{self.name}.tex": self._to_latex(),
        }

    def to_text(self) -> str:
        """The table in columns of fixed width, for a terminal."""
        return _grid(self.shown, "simple")

    def _to_markdown(self) -> str:
        notes = "".join(f"- {note}\n" for note in self.notes)
        text = f"{self.caption}\n\n{_pipes(self.shown)}\n" + (f"\n{notes}" if notes else "")
        if self.detail is not None:
            text += f"\n<details><summary>Seed by seed</summary>\n\n{_pipes(self.detail)}\n\n</details>\n"
        return text

    def _to_latex(self) -> str:
        """A table environment that needs the package booktabs and nothing else."""
        lines = [list(self.latex.columns), *self.latex.to_numpy().tolist()]
        header, *body = [" & ".join(escape_latex(cell) for cell in line) + r" \\" for line in lines]
        columns = "".join(side[0] for side in _sides(self.latex))
        rows = [
            r"\begin{table}[htbp]",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape_latex(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", header, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}",
            *(rf"\par\smallskip{{\footnotesize {escape_latex(note)}}}" for note in self.notes),
            r"\end{table}",
        ]
        return "\n".join(rows) + "\n"


def make_table(
    name: str, caption: list[str], notes: list[str], data: list[dict], shown: list[dict], detail: list[dict] = ()
) -> Table:
    """The table; the data set is left out of what is shown where there is one, intervals out of the narrow form."""
    frame, text = (pd.DataFrame(rows, columns=None if rows else NAMES) for rows in (data, shown))
    several = text["dataset"].nunique() > 1
    text, more = (
        part if several else part.drop(columns="dataset", errors="ignore") for part in (text, pd.DataFrame(detail))
    )
    narrow = text.map(lambda cell: cell.partition(" [")[0])
    return Table(name, " ".join(caption), notes, frame, text, narrow, more if len(more) else None)


def escape_latex(text: str) -> str:
    """`text` with every character that LaTeX would act on made printable."""
    return text.translate(LATEX)


def plus_minus(summary: Summary, digits: int, expected: int, sign: bool = False) -> str:
    """ "53.1 ± 0.8"; "53.1 ± –" for one value, "–" for none; "(n = 2)" follows where `expected` is another number."""
    if summary.n == 0:
        return NOTHING
    mean = signed(summary.mean, digits) if sign else f"{summary.mean:.{digits}f}"
    std = f"{summary.std:.{digits}f}" if summary.n > 1 else NOTHING
    return f"{mean} ± {std}" + (f" (n = {summary.n})" if summary.n != expected else "")


def numbers(summaries: dict[str, Summary], unit: str, suffix: str = "", count: bool = True) -> dict:
    """Columns for the CSV: `<name>_<unit>mean`, `<name>_<unit>std` and `<name>_n`."""
    columns = {}
    for name, summary in summaries.items():
        columns |= {f"{name}_{unit}mean{suffix}": summary.mean, f"{name}_{unit}std{suffix}": summary.std}
        columns |= {f"{name}_n{suffix}": summary.n} if count else {}
    return columns


def signed(value: float, digits: int) -> str:
    """The number with its sign; what rounds to zero is +0.0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def of_planned(count: int, planned: int) -> str:
    """ "3" where all are there, else "2 of 3"."""
    return str(count) if count == planned else f"{count} of {planned}"


def _sides(frame: pd.DataFrame) -> list[str]:
    words = ("dataset", "variant", "base", "hardware")
    return ["left" if column in words else "right" for column in frame.columns]


def _grid(frame: pd.DataFrame, style: str) -> str:
    return frame.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=_sides(frame))


def _pipes(frame: pd.DataFrame) -> str:
    return _grid(frame.map(lambda cell: cell.replace("|", "\\|")), "pipe")
