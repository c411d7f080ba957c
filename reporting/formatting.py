"""How a table looks as CSV, Markdown, LaTeX and on a terminal, and how its numbers are written."""

import html
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from analysis.columns import FILES, names
from analysis.frames import to_csv
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


class Cell(NamedTuple):
    """What a table says at one place, and the interval that follows it.

    number: what it sorts by, NaN where there is none to be had; None for words.
    """

    text: str
    number: float | None = None
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.interval}" if self.interval else self.text


@dataclass(frozen=True)
class Line:
    """A line of a table: cells by the head of their column, and what they are of.

    best: columns whose cell is in bold; detail: more columns, which a page of Markdown shows on demand.
    """

    dataset: str
    variant: str
    cells: dict[str, Cell]
    best: Collection[str] = ()
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table: `data` has each number in a column of its own, `lines` are what people read.

    attacks: of the suite, after which columns of `data` are named.
    """

    name: str
    caption: str
    notes: list[str]
    data: pd.DataFrame
    lines: list[Line]
    attacks: Sequence[str] = ()

    @cached_property
    def columns(self) -> list[str]:
        """The heads of the columns; the data set is left out where there is one."""
        heads = list(self.lines[0].cells) if self.lines else NAMES
        several = len({line.dataset for line in self.lines}) > 1
        return [head for head in heads if head != "dataset" or several]

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The lines as text."""
        lines = [{head: str(line.cells[head]) for head in self.columns} for line in self.lines]
        return pd.DataFrame(lines, columns=self.columns, dtype=str)

    @cached_property
    def narrow(self) -> list[str]:
        """The columns for LaTeX: those but the counts that are the same in every line."""
        return [head for head in self.columns if head not in COUNTS or self.shown[head].nunique() != 1]

    @cached_property
    def detail(self) -> pd.DataFrame:
        """What a page of Markdown shows on demand, as text; empty for nothing."""
        lines = [
            {head: str(line.cells[head]) for head in NAMES if head in self.columns} | dict(line.detail)
            for line in self.lines
            if line.detail
        ]
        return pd.DataFrame(lines)

    def files(self) -> dict[str, str]:
        """Contents by file name: `<name>.csv`, `<name>.md` and `<name>.tex`."""
        return {
            f"{self.name}.csv": to_csv(f"tables/{self.name}.csv", self.data, self.attacks),
            f"{self.name}.md": self._to_markdown(),
            f"{self.name}.tex": self._to_latex(),
        }

    def to_text(self) -> str:
        """The table in columns of fixed width, for a terminal."""
        return _grid(self.shown, "simple")

    def markdown_lines(self) -> str:
        """The lines alone, as Markdown; the best of a column in bold."""
        cells = [
            [f"**{line.cells[head]}**" if head in line.best else str(line.cells[head]) for head in self.columns]
            for line in self.lines
        ]
        return _pipes(pd.DataFrame(cells, columns=self.columns))

    def markdown_notes(self) -> str:
        """The notes as a list, in Markdown; empty for none."""
        return "".join(f"- {escape_markdown(note)}\n" for note in self.notes)

    def _to_markdown(self) -> str:
        notes = self.markdown_notes()
        lines = f"\n{self.markdown_lines()}\n" if self.lines else ""
        more = f"\n<details><summary>Seed by seed</summary>\n\n{_pipes(self.detail)}\n\n</details>\n"
        head = f"{escape_markdown(self.caption)}\n" + lines + (f"\n{notes}" if notes else "")
        return head + ("" if self.detail.empty else more)

    def _to_latex(self) -> str:
        """A table environment no wider than the line it stands on; its first line names the packages it needs.

        A table without lines is a paragraph of its caption and notes.
        """
        if not self.lines:
            return "".join(f"{escape_latex(text)}\n" for text in [self.caption, *self.notes])
        body = [[_latex_cell(line, head) for head in self.narrow] for line in self.lines]
        header, *body = [" & ".join(line) + r" \\" for line in [map(escape_latex, self.narrow), *body]]
        columns = "".join(LONG.get(head) or _side(head)[0] for head in self.narrow)
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
        same = [f"{head} {self.shown[head].iloc[0]}" for head in self.columns if head not in self.narrow]
        return [f"In every line: {', '.join(same)}."] if same else []


def _latex_cell(line: Line, head: str) -> str:
    text = escape_latex(str(line.cells[head]))
    return rf"\textbf{{{text}}}" if head in line.best else text


def make_table(
    name: str,
    caption: Sequence[str],
    notes: list[str],
    data: Sequence[Mapping[str, Any]],
    lines: list[Line],
    attacks: Sequence[str] = (),
) -> Table:
    """The table of a suite with these attacks; caption: its sentences; data: the lines of its CSV."""
    declared = FILES[f"tables/{name}.csv"][1]
    frame = pd.DataFrame(data) if data else pd.DataFrame(columns=names(declared, attacks))
    return Table(name, " ".join(caption), notes, frame, lines, attacks)


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


def words(texts: Mapping[str, str]) -> dict[str, Cell]:
    """Cells of words, by the head of their column."""
    return {head: Cell(text) for head, text in texts.items()}


def count_of(number: int, planned: int | None = None) -> Cell:
    """ "3" where all are there, else "2 of 3"."""
    return Cell(str(number) if planned in (None, number) else f"{number} of {planned}", number)


def mean_of(summary: Summary, digits: int, expected: int, mark: str = "") -> Cell:
    """The cell of `plus_minus`, sorted by the mean; mark: what follows."""
    return Cell(plus_minus(summary, digits, expected) + (f" {mark}" if mark else ""), summary.mean)


def estimate(text: str, number: float, interval: str, known: int, expected: int) -> Cell:
    """ "3.22 [2.73, 3.79]"; no interval where it is "", "(n = 2)" where not all pairs have a value, "–" for none."""
    if known == 0:
        return Cell(NOTHING, math.nan)
    return Cell(text + (f" (n = {known})" if known != expected else ""), number, interval)


def plus_minus(summary: Summary, digits: int, expected: int) -> str:
    """ "53.1 ± 0.8"; "53.1 ± –" for one value, "–" for none; "(n = 2)" follows where `expected` is another number."""
    if summary.n == 0:
        return NOTHING
    std = f"{summary.std:.{digits}f}" if summary.n > 1 else NOTHING
    return f"{summary.mean:.{digits}f} ± {std}" + (f" (n = {summary.n})" if summary.n != expected else "")


def numbers(summaries: Mapping[str, Summary], suffix: str = "", counted: bool = True) -> dict[str, float]:
    """Columns for the CSV: `<name>_mean`, `<name>_std` and, where it is counted, `<name>_n`."""
    columns: dict[str, float] = {}
    for name, summary in summaries.items():
        columns |= {f"{name}_mean{suffix}": summary.mean, f"{name}_std{suffix}": summary.std}
        columns |= {f"{name}_n{suffix}": summary.n} if counted else {}
    return columns


def signed(value: float, digits: int) -> str:
    """The number with its sign; what rounds to zero is +0.0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def _side(head: str) -> str:
    return "left" if head in WORDS else "right"


def _grid(frame: pd.DataFrame, style: str) -> str:
    return frame.to_markdown(index=False, tablefmt=style, disable_numparse=True, colalign=[*map(_side, frame)])


def _pipes(frame: pd.DataFrame) -> str:
    return _grid(frame.map(lambda cell: escape_markdown(cell).replace("|", "\\|")), "pipe")
