"""Random edits of Python code, of the kinds that people make: signs, factors, axes, indices ..."""

import ast
import copy
import re

SWAPS = {
    ast.Add: [ast.Sub, ast.Mult],
    ast.Sub: [ast.Add, ast.Mult],
    ast.Mult: [ast.Add, ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mod],
    ast.Mod: [ast.FloorDiv],
    ast.Gt: [ast.GtE, ast.Lt, ast.NotEq],
    ast.Eq: [ast.NotEq, ast.GtE],
}
METHODS = {
    "sum": ["mean", "max"],
    "argmax": ["argmin"],
    "zeros_like": ["ones_like"],
    "sign": ["abs"],
    "copy": ["sum"],
}


def edited(source, rng):
    """Return a function's source with one random edit."""
    tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree.body[0]) if edits(node, tree)]
    node = nodes[rng.integers(len(nodes))]
    choices = edits(node, tree)
    replace(tree, node, choices[rng.integers(len(choices))])
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def edits(node, tree):
    """What may stand in the place of a node."""
    if isinstance(node, ast.BinOp):
        found = [ast.BinOp(node.left, new(), node.right) for new in SWAPS.get(type(node.op), [])]
        return [*found, node.left, node.right, ast.BinOp(node.right, node.op, node.left)]
    if isinstance(node, ast.Compare):
        return [
            ast.Compare(node.left, [new()], node.comparators)
            for new in SWAPS.get(type(node.ops[0]), [])
        ]
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.AugAssign):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        return [
            ast.Assign([node.target], node.value),
            ast.AugAssign(node.target, other, node.value),
            ast.Pass(),
        ]
    if isinstance(node, ast.Attribute):
        return [ast.Attribute(node.value, new, node.ctx) for new in METHODS.get(node.attr, [])]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return [ast.Constant(node.value + 1), ast.Constant(node.value - 1)]
    if isinstance(node, ast.Constant) and re.fullmatch(r"\w+,\w+->\w+", str(node.value)):
        left, right = node.value.split("->")
        return [ast.Constant(f"{left}->{right[::-1]}"), ast.Constant(f"{left[::-1]}->{right}")]
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        factors = [ast.Constant(1 + 1e-6), ast.Constant(0.5), ast.Constant(-1)]
        return [
            ast.Assign(node.targets, ast.BinOp(node.value, ast.Mult(), factor))
            for factor in factors
        ]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - {"np", node.id}
        return [ast.Name(name, node.ctx) for name in sorted(names)]
    return []


def replace(tree, old, new):
    """Put a copy of a node in the place of another."""
    new = copy.deepcopy(new)
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list):
                value[:] = [new if item is old else item for item in value]
