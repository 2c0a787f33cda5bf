"""A text as the shell reads it: words, quotes, pipelines and redirections; what only a shell can know is pointed out.

The rules are those of POSIX, XCU 2.2 to 2.7 and 2.9, and ``$'...'`` and ``&>`` of bash(1). Nothing is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from fetchd.imports.marks import CLOSE, OPEN, marked

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OPERATOR: Final = re.compile(r"&&|\|\||;;|\|&|&>>|&>|<<<|<<-?|<\(|>\(|>>|>\||>&|<&|<>|[;\n|&<>()]")
_RESERVED: Final = re.compile(r"if|then|else|elif|fi|for|while|until|do|done|case|esac|function|select|[{}!]|\[\[")
_NOT_IN_TEXT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_SIMPLE_ESCAPES: Final = dict(zip("nrtabeEfv\\'\"?", "\n\r\t\a\b\x1b\x1b\f\v\\'\"?", strict=True))
_ANSI: Final = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|([0-7]{1,3})|c(.)|(.))|([^\\]+)", re.DOTALL
)
_BRACES: Final = re.compile(r"""\{(?:[^\s{}"'\\$`]|"[^"]*"|'[^']*')*\}""")
_DEEPEST: Final = 20


class ShellError(Exception):
    """The text is more than a line of commands, or less; the message says what it holds."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, without its quotes; its variables are marked. ``doubts`` is what only a shell could put in."""

    text: str
    doubts: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    """Variables outside of quotes: a value with spaces becomes several words."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """Where a stream goes, or comes from: ``descriptor`` is "" where none is named."""

    descriptor: str
    operator: str
    target: Word


@dataclass(slots=True)
class Command:
    """One command with its redirections; ``start`` and ``end`` are its place in the text."""

    words: list[Word] = field(default_factory=list)
    redirections: list[Redirection] = field(default_factory=list)
    start: int = -1
    end: int = -1


@dataclass(slots=True)
class Pipeline:
    """Commands that hand their output on. ``before`` is what stands between this and the one before."""

    before: str
    commands: list[Command]
    source: str = ""
    rest: str = ""
    """What stands after the first command's pipe."""


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    word: Word | None = None
    operator: str = ""
    descriptor: str = ""


def pipelines(text: str) -> list[Pipeline]:
    """Return the pipelines that ``text`` is made of.

    Raises:
        ShellError: it holds a loop, a function, a here-document or the like, or its quotes do not end.
    """
    text = text.replace("\r\n", "\n")
    if _NOT_IN_TEXT.search(text):
        raise ShellError("control characters")
    found = list(_Grammar(text, list(_Lexer(text).tokens())).lists())
    if any(command.words and command.words[-1].text == "^" for pipeline in found for command in pipeline.commands):
        raise ShellError('lines that end with "^", as cmd.exe has them: copy the command as bash has it')
    return found


class _Grammar:
    """From tokens to pipelines."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    def lists(self) -> Iterator[Pipeline]:
        """Yield the pipelines, with what stands before each."""
        before = ""
        while self._next < len(self._tokens):
            if (operator := self._tokens[self._next].operator) in {";", "\n", "&", "&&", "||"}:
                self._next += 1
                before = before if operator == "\n" and before in {"&&", "||"} else operator
                continue
            yield self._pipeline(before)
            before = ""

    def _pipeline(self, before: str) -> Pipeline:
        start = self._tokens[self._next].start
        found = Pipeline(before, [self._command()])
        rest = -1
        while self._next < len(self._tokens) and self._tokens[self._next].operator in {"|", "|&"}:
            rest = self._tokens[self._next].end if rest < 0 else rest
            self._next += 1
            while self._next < len(self._tokens) and self._tokens[self._next].operator == "\n":
                self._next += 1
            found.commands.append(self._command())
        end = found.commands[-1].end
        found.source = self._text[start:end]
        found.rest = self._text[rest:end].strip() if rest >= 0 else ""
        return found

    def _command(self) -> Command:
        command = Command()
        while self._next < len(self._tokens):
            token = self._tokens[self._next]
            if token.word is not None:
                if not command.words and _RESERVED.fullmatch(token.word.text):
                    raise ShellError(f"the shell's own word {token.word.text}")
                command.words.append(token.word)
            elif token.operator[0] in "<>" or token.operator.startswith("&>"):
                command.redirections.append(self._redirection(token))
            elif token.operator in {"(", ")", ";;"}:
                raise ShellError(f'a "{token.operator}", which only a shell can read')
            else:
                break
            self._next += 1
            command.start = token.start if command.start < 0 else command.start
            command.end = self._tokens[self._next - 1].end
        if command.start < 0:
            raise ShellError("an operator without a command")
        return command

    def _redirection(self, token: _Token) -> Redirection:
        if token.operator in {"<<", "<<-", "<<<", "<(", ">("}:
            raise ShellError(f'a "{token.operator}", which only a shell can read')
        self._next += 1
        target = self._tokens[self._next].word if self._next < len(self._tokens) else None
        if target is None:
            raise ShellError("a redirection to nowhere")
        return Redirection(token.descriptor, token.operator, target)


class _Lexer:
    """From text to tokens."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._pieces: list[str] = []
        self._doubts: list[str] = []
        self._splits: list[str] = []

    def tokens(self) -> Iterator[_Token]:
        """Yield the words and operators."""
        text = self._text
        while self._at < len(text):
            start = self._at
            if text[start] in " \t" or text.startswith("\\\n", start):
                self._at += 1 if text[start] in " \t" else 2
            elif text[start] == "#":
                end = text.find("\n", start)
                self._at = len(text) if end < 0 else end
            elif match := _OPERATOR.match(text, start):
                self._at = match.end()
                yield _Token(start, self._at, operator=match[0])
            else:
                yield self._word(start)

    def _word(self, start: int) -> _Token:
        self._pieces, self._doubts, self._splits = [], [], []
        plain = True
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter in " \t" or _OPERATOR.match(self._text, self._at):
                break
            plain = plain and letter.isdigit()
            self._part(letter)
        written = self._text[start : self._at]
        if (
            plain
            and self._text[self._at : self._at + 1] in {"<", ">"}
            and (match := _OPERATOR.match(self._text, self._at))
        ):
            self._at = match.end()
            return _Token(start, self._at, operator=match[0], descriptor=written)
        text = "".join(self._pieces)
        if written.startswith("~/"):
            text = marked("HOME") + text[1:]
        return _Token(start, self._at, Word(text, tuple(self._doubts), tuple(self._splits)))

    def _part(self, letter: str) -> None:
        part = {"'": self._single, '"': self._double, "\\": self._escape, "$": self._dollar, "`": self._backtick}
        if letter in part:
            part[letter]()
        else:
            if letter == "{" and (match := _BRACES.match(self._text, self._at)):
                self._braces(match[0])
            self._pieces.append(letter)
            self._at += 1

    def _braces(self, written: str) -> None:
        """Doubt ``{a,b}`` and ``{1..3}``, which some shells expand; ``{a,b}`` in a URL curl does too."""
        if ".." in written or ("," in written and "/" not in "".join(self._pieces)):
            self._doubts.append(written)

    def _single(self) -> None:
        self._pieces.append(self._until("'", self._at + 1))

    def _until(self, quote: str, start: int) -> str:
        end = self._text.find(quote, start)
        if end < 0:
            raise ShellError(f"a {quote} without its other one")
        self._at = end + 1
        return self._text[start:end]

    def _escape(self) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        self._pieces.append({"": "\\", "\n": ""}.get(following, following))
        self._at += 1 + len(following)

    def _double(self) -> None:
        self._at += 1
        inside: dict[str, Callable[[], None]] = {"$": self._quoted_dollar, "`": self._backtick}
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter == '"':
                self._at += 1
                return
            if letter == "\\":
                following = self._text[self._at + 1 : self._at + 2]
                self._pieces.append(
                    {"\n": ""}.get(following, following) if following in '$`"\\\n' else f"\\{following}"
                )
                self._at += 1 + len(following)
            elif letter in inside:
                inside[letter]()
            else:
                self._pieces.append(letter)
                self._at += 1
        raise ShellError('a " without its other one')

    def _quoted_dollar(self) -> None:
        before = len(self._splits)
        self._variable()
        del self._splits[before:]

    def _dollar(self) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        if following == "'":
            self._ansi()
        elif following == '"':
            self._at += 1
            self._double()
        else:
            self._variable()

    def _variable(self) -> None:
        text, start = self._text, self._at
        match = _BRACED.match(text, start + 1) or _NAME.match(text, start + 1)
        if match:
            name = match[0].strip("{}")
            self._pieces.append(marked(name))
            self._splits.append(name)
            self._at = match.end()
        elif text[start + 1 : start + 2] in {"(", "{"}:
            self._at = _matching(text, start + 1)
            self._doubts.append(text[start : self._at])
        elif (special := text[start + 1 : start + 2]) and special in "0123456789@*#?$!-":
            self._at += 2
            self._doubts.append(f"${special}")
        else:
            self._pieces.append("$")
            self._at += 1

    def _backtick(self) -> None:
        self._doubts.append(f"`{self._until('`', self._at + 1)}`")

    def _ansi(self) -> None:
        end = self._at + 2
        while end < len(self._text) and self._text[end] != "'":
            end += 2 if self._text[end] == "\\" else 1
        if end >= len(self._text):
            raise ShellError("a ' without its other one")
        written = self._text[self._at + 2 : end]
        self._at = end + 1
        decoded = ansi_text(written)
        if decoded is None:
            self._doubts.append(f"$'{written}'")
        else:
            self._pieces.append(decoded)


def ansi_text(written: str) -> str | None:
    """Return what is between the quotes of ``$'...'``, its escapes read; None if that is not a text."""
    octets = bytearray()
    for match in _ANSI.finditer(written):
        hexadecimal, short, long, octal, control, other, plain = match.groups()
        if hexadecimal or octal:
            octets.append(int(hexadecimal or "0", 16) or int(octal or "0", 8) & 0xFF)
        elif short or long:
            number = int(short or long, 16)
            octets += chr(number).encode("utf-8", "surrogatepass") if number < 0x110000 else b"\0"
        elif control:
            octets.append(ord(control) & 0x1F)
        elif other:
            octets += _SIMPLE_ESCAPES.get(other, f"\\{other}").encode()
        else:
            octets += (plain or "").encode()
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    return None if {"\0", OPEN, CLOSE} & set(text) else text


def _matching(text: str, start: int) -> int:
    """Return where what opens at ``start`` has closed.

    Raises:
        ShellError: it does not.
    """
    closing = {"(": ")", "{": "}"}
    expected, at = [closing[text[start]]], start + 1
    while at < len(text) and expected:
        letter = text[at]
        if letter == "'" and "}" not in expected:
            at = text.find("'", at + 1)
            if at < 0:
                break
        elif letter == "\\":
            at += 1
        elif letter == expected[-1]:
            expected.pop()
        elif letter in closing and len(expected) < _DEEPEST:
            expected.append(closing[letter])
        at += 1
    if expected:
        raise ShellError(f"a ${text[start]} that does not end")
    return at
