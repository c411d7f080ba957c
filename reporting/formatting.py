"""How a table looks as CSV, Markdown, LaTeX and on a terminal, and how its numbers are written."""

import html
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.statistics import Summary
from reporting.captions import NOTHING

NAMES = ["dataset", "base", "variant"]
COUNTS = {"runs", "pairs", "collapsed", "diverged", "suspect"}
WORDS = {"dataset", "variant", "base", "hardware", "verdict", "quantity", "source", "differs"}  # columns of text
LONG = {"verdict": r"p{5cm}"}  # of them, those whose text is broken into lines
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "`": r"\`{}",
    "[": "{[}",  # after a line break LaTeX would take it for a length
    "*": "{*}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "·": r"$\cdot$",
    "†": r"$\dagger$",
    "µ": r"$\mu$",
    "®": r"\textregistered{}",
    "™": r"\texttrademark{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
}


@dataclass(frozen=True)
class Table:
    """One table: `data` has each number in a column of its own; `shown`, and `latex` where it is narrower, is text.

    detail: what a page of Markdown shows on demand, None for nothing; best: of bool, for each cell of `shown`, whether
    it is in bold.
    """

    name: str
    caption: str
    notes: list[str]
    data: pd.DataFrame
    shown: pd.DataFrame
    latex: pd.DataFrame
    detail: pd.DataFrame | None
    best: pd.DataFrame

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
        notes = "".join(f"- {escape_markdown(note)}\n" for note in self.notes)
        cells = self.shown.where(~self.best, "**" + self.shown + "**")
        text = (
            f"{escape_markdown(self.caption)}\n"
            + (f"\n{_pipes(cells)}\n" if len(cells) else "")
            + (f"\n{notes}" if notes else "")
        )
        if self.detail is not None:
            text += f"\n<details><summary>Seed by seed</summary>\n\n{_pipes(self.detail)}\n\n</details>\n"
        return text

    def _to_latex(self) -> str:
        """A table environment no wider than the line it stands on; its first line names the packages it needs.

        A table without lines is a paragraph of its caption and notes.
        """
        if self.shown.empty:
            return "".join(f"{escape_latex(text)}\n" for text in [self.caption, *self.notes])
        cells = [[escape_latex(cell) for cell in line] for line in self.latex.to_numpy().tolist()]
        bold = self.best[self.latex.columns].to_numpy()
        body = [
            [rf"\textbf{{{cell}}}" if best else cell for cell, best in zip(line, marks, strict=True)]
            for line, marks in zip(cells, bold, strict=True)
        ]
        header, *body = [" & ".join(line) + r" \\" for line in [map(escape_latex, self.latex.columns), *body]]
        columns = "".join(
            LONG.get(column) or side[0] for column, side in zip(self.latex, _sides(self.latex), strict=True)
        )
        rows = [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table}[htbp]",
            r"\centering\small\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}",
            rf"\caption{{{escape_latex(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", header, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}}",
            *(
                rf"\par\smallskip{{\footnotesize {escape_latex(note)}}}"
                for note in [*self._in_every_line(), *self.notes]
            ),
            r"\end{table}",
        ]
        return "\n".join(rows) + "\n"

    def _in_every_line(self) -> list[str]:
        """What the narrow form says once: the counts that are the same in every line."""
        same = [f"{column} {self.shown[column].iloc[0]}" for column in self.shown if column not in self.latex]
        return [f"In every line: {', '.join(same)}."] if same else []


def make_table(
    name: str,
    caption: list[str],
    notes: list[str],
    data: list[dict],
    shown: list[dict],
    detail: Sequence[dict] = (),
    best: Sequence[Collection[str]] = (),
) -> Table:
    """The table; the data set is left out of what is shown where there is one.

    The narrow form for LaTeX is without the counts that are the same in every line.
    best: for each line of `shown`, the columns whose cell is in bold; nothing is where it is empty.
    """
    frame, text = (pd.DataFrame(rows, columns=None if rows else NAMES) for rows in (data, shown))
    several = text["dataset"].nunique() > 1
    text, more = (
        part if several else part.drop(columns="dataset", errors="ignore") for part in (text, pd.DataFrame(detail))
    )
    same = [column for column in text.columns if column in COUNTS and text[column].nunique() == 1]
    narrow = text.drop(columns=same)
    bold = [[column in line for column in text.columns] for line in best or [()] * len(text)]
    bold = pd.DataFrame(bold, index=text.index, columns=text.columns, dtype=bool)
    return Table(name, " ".join(caption), notes, frame, text, narrow, more if len(more) else None, bold)


def escape_markdown(text: str) -> str:
    """Markdown that shows `text`: no tag in it, and no link to elsewhere."""
    return html.escape(text, quote=False).replace("](", "]\\(")


def escape_latex(text: str) -> str:
    """LaTeX source, in ASCII, that prints `text`: accents are dropped, other letters told by number (U+4E2D)."""
    letters = (LATEX.get(letter) or _plain(letter) for letter in " ".join(text.split()))
    return re.sub("-(?=-)", "-{}", "".join(letters))  # two hyphens would print as a dash


def _plain(letter: str) -> str:
    first, *accents = unicodedata.normalize("NFD", letter)
    letter_alone = first.isascii() and first.isprintable() and all(map(unicodedata.combining, accents))
    return first if letter_alone else f"U+{ord(letter):04X}"


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
    return ["left" if column in WORDS else "right" for column in frame.columns]


def _grid(frame: pd.DataFrame, style: str) -> str:
    return frame.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=_sides(frame))


def _pipes(frame: pd.DataFrame) -> str:
    return _grid(frame.map(lambda cell: escape_markdown(cell).replace("|", "\\|")), "pipe")
