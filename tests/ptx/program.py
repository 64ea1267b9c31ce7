"""PTX text, read: instructions, labels, parameters, registers and shared memory of one kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instruction:
    """``@guard name.with.suffixes operands;`` An operand in braces is a tuple of registers."""

    text: str
    guard: str | None
    negated: bool
    words: tuple[str, ...]
    operands: tuple[str | tuple[str, ...], ...]


@dataclass
class Program:
    parameters: dict[str, int] = field(default_factory=dict)  # name: bytes
    registers: dict[str, str] = field(default_factory=dict)  # name without number: type
    shared: dict[str, int] = field(default_factory=dict)  # array: offset
    shared_bytes: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)


def read(text: str, kernel: str) -> Program:
    """Find a kernel in PTX and read it."""
    text = re.sub(r"//.*", "", text)
    head, _, rest = text[text.index(f".entry {kernel}(") :].partition("\n{")
    body = rest[: rest.index("\n}")]
    program = Program()
    for width, name, count in re.findall(r"\.param\b[^,]*?\.[a-z](\d+) (\w+)(?:\[(\d+)\])?", head):
        program.parameters[name] = int(width) // 8 * int(count or 1)
    arrays = re.findall(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]", text)
    for align, name, size in arrays:
        if name in body:
            start = -(-program.shared_bytes // int(align)) * int(align)
            program.shared[name], program.shared_bytes = start, start + int(size)
    body = re.sub(r"\{\s*(%[^;{}]*)\}", r"<\1>", body)  # operands; other braces are scopes
    for statement in re.sub(r"[{}]", " ", body).split(";"):
        _read_statement(program, statement.strip())
    return program


def _read_statement(program: Program, statement: str) -> None:
    while label := re.match(r"([$\w]+):\s*", statement):
        program.labels[label[1]] = len(program.instructions)
        statement = statement[label.end() :]
    if found := re.match(r"\.reg\s+\.(\w+)\s+(%[a-z]+)", statement):
        program.registers[found[2]] = found[1]
    elif statement and not statement.startswith("."):
        guarded = re.match(r"(?:@(!?)(%\w+)\s+)?(\S+)\s*(.*)", statement, re.S)
        assert guarded, statement
        operands = tuple(
            tuple(part.strip() for part in braces.split(",")) if braces else plain.strip()
            for braces, plain in re.findall(r"<([^>]*)>|([^,<>\s][^,<>]*)", guarded[4])
        )
        words = tuple(guarded[3].split("."))
        program.instructions.append(
            Instruction(statement, guarded[2], guarded[1] == "!", words, operands)
        )
