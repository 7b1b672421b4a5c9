"""CUDA C++ to C++: the few things no macro can do. The kernels themselves stay as they are.

Inline PTX becomes calls of functions in `host/ptx.hpp`, an instruction each. Memory in `extern
__shared__` arrays becomes a pointer, and every kernel gets an entry that the host can call.
"""

from __future__ import annotations

import re

_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+'
    r"(?:__launch_bounds__\(((?:[^()]|\([^()]*\))*)\)\s*)?(\w+)\s*\("
)
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?(\w+)\s+(\w+)\[\]\s*;")
_ASM = re.compile(r"\basm\s*(?:volatile\s*)?\(")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LINE_COMMENT = re.compile(r"//[^\n]*")
_WORDS = re.compile(r"%(\d+)")


def translated(source: str) -> str:
    """The translation unit for the host's compiler, without its first include."""
    source = _LINE_COMMENT.sub("", source)
    source = _DYNAMIC.sub(r"\1* const \2 = (\1*)machine::machine_shared;", source)
    return _with_entries(_without_ptx(source))


def kernels(source: str) -> list[str]:
    """Names of the kernels."""
    return [match[2] for match in _KERNEL.finditer(_LINE_COMMENT.sub("", source))]


def _with_entries(source: str) -> str:
    parts, at = [], 0
    for match in _KERNEL.finditer(source):
        opening = source.index("{", closing(source, match.end() - 1))
        end = closing(source, opening) + 1
        bound = (match[1] or "1024").split(",")[0]
        parts += [source[at:end], f"\nMACHINE_KERNEL({match[2]}, {bound})\n"]
        at = end
    return "".join(parts) + source[at:]


def closing(text: str, opening: int) -> int:
    """Where the bracket at `opening` is closed; brackets in strings do not count."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    open_, close = text[opening], pairs[text[opening]]
    depth, i = 0, opening
    while i < len(text):
        string = _STRING.match(text, i) if text[i] == '"' else None
        if string:
            i = string.end()
            continue
        depth += (text[i] == open_) - (text[i] == close)
        if depth == 0:
            return i
        i += 1
    raise ValueError(f"unbalanced {open_}")


def _without_ptx(source: str) -> str:
    parts, at = [], 0
    for match in _ASM.finditer(source):
        end = closing(source, match.end() - 1)
        parts += [source[at : match.start()], _calls(source[match.end() : end])]
        at = end + 1
    return "".join(parts) + source[at:]


def _calls(statement: str) -> str:
    """What the inside of asm(...) becomes: a block of calls."""
    sections = _split(statement, ":")
    text = "".join(s[1:-1] for s in _STRING.findall(sections[0])).replace("\\n", "\n")
    operands = [_expression(o) for section in sections[1:3] for o in _split(section, ",") if o]
    calls = []
    for instruction in re.split(r"[;\n]", text.replace("{\n", "").replace("\n}", "")):
        calls.append(_call(instruction.strip().rstrip(":"), operands))
    return "do { " + " ".join(filter(None, calls)) + " } while (0)"


def _expression(operand: str) -> str:
    return operand[operand.index("(") : closing(operand, operand.index("(")) + 1]


def _call(instruction: str, operands: list[str]) -> str:
    predicate = re.fullmatch(r"\.reg \.pred (\w+)", instruction)
    if predicate:
        return f"bool {predicate[1]} = false;"
    # labels and branches: an instruction that must be repeated waits by itself
    if not instruction or instruction[0] == "@" or re.fullmatch(r"[A-Z]+|bra .*", instruction):
        return ""
    opcode, _, rest = instruction.partition(" ")
    name = re.sub(r"m64n\d+k16", "m64nNk16", opcode)
    name = re.sub(r"[.:]", "_", name)
    given = []
    for part in _split(rest, ","):
        part = part.strip().strip("[]")
        if part.startswith("{"):
            inner = ", ".join("&" + _filled(p.strip(), operands) for p in part[1:-1].split(","))
            given.append(f"ptx::list({inner})")
        elif part not in ("", "_"):
            given.append(_filled(part, operands))
    return f"ptx::{name}({', '.join(given)});"


def _filled(part: str, operands: list[str]) -> str:
    return _WORDS.sub(lambda m: operands[int(m[1])], part)


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that stand outside of brackets and strings."""
    parts, start, i = [], 0, 0
    while i < len(text):
        if text[i] in "({[":
            i = closing(text, i)
        elif text[i] == '"':
            i = _STRING.match(text, i).end() - 1
        elif text[i] == separator:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [p.strip() for p in [*parts, text[start:]]]
