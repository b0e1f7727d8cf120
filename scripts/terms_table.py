"""Write `docs/terms.md`: for every term of K-Scale's ksim the terms here that stand for it, what they are, and a test.

    python -m scripts.terms_table

All of it is read from the source. Docstrings of terms name ksim's in lines `ksim: NAME, NAME`. What a term is, is its
docstring's first paragraph and, for shape and range, the docstring of the method that makes its value. Its tests are
the first test functions that use it, of those in which nothing is refused, in the file that mirrors the term's own if
there are any (see `_proofs`). Before them stands the test whose cases have ksim's own names.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "terms.md"
TASKS, TESTS = "ksim_envs/tasks", "tests/ksim_envs/tasks"

ROLES = {
    "Observations": r"Observation$",
    "Noise and delays": r"(Noise|Bias|RandomVariable|_range|_prob|_std|_mag)$",
    "Commands": r"^commands|^motion_commands",
    "Rewards": None,
    "Terminations": r"\wTermination$",
    "Resets": r"[Rr]eset$",
    "Events": r"Event$",
    "Randomizers": r"Randomizer$",
    "Actuators": r"Actuators?$|^actuators|^filters|^motors|^targets",
    "Curricula": r"(Curriculum|Scale)$|^curricula",
}
"""The sections of the page, and what ksim's name or else our module looks like there; all else are rewards."""
METHODS = ("combine", "change", "update", "kick", "measure", "__call__")
"""What makes a term's value, if it is the term's own."""
NO_QUANTITIES = {"actuators", "curricula", "filters", "motors", "scales", "targets"}
"""Modules whose terms' values have no shape or range to tell."""
BY_NAME = {
    "Commands": "test_a_command_has_its_range_and_changes_from_episode_to_episode",
    "Rewards": "test_a_reward_has_its_range_and_an_effect",
}
"""The tests in `test_ksim_terms.py` whose cases have ksim's own names: the keys of the tables in `ksim_terms.py`."""
HEADER = """# ksim's terms, and ours

Each term of K-Scale Labs' `ksim`, in its last version (0.2.10) or earlier, and what takes its place here: a term, or
several that a task combines, for example a `Tracking` of a `BaseLinearVelocity`. **Here:** shows code from the tests,
in which `Touches()` and `Soles()` are the contacts and the places of a robot's feet; a sum has a line for each of its
parts. A name in brackets behind a test is that of its case, which runs on each backend. `python -m
scripts.terms_table` makes this page from docstrings and tests; don't edit it.

What ksim calls no noise or no bias is a quantity without a wrapper, and a constant scale a plain number. Three names
have no counterpart: `AMPReward` and `TeacherReward` belong to learning algorithms, not to tasks, and
`actuator_update_dt`, an actuator slower than physics but faster than the policy, is missing.
"""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A public class of `ksim_envs.tasks`."""

    name: str  # "module.Class"
    meaning: str
    stands_for: tuple[str, ...]  # names of ksim's

    @property
    def module(self) -> str:
        """The name of its file."""
        return self.name.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A test function."""

    file: str
    name: str
    direct: set[str]  # the names that it uses, those of terms in full
    indirect: set[str]  # those that the tables, helpers and fixtures of its file use for it


def main() -> None:
    """Write the page."""
    TARGET.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page, as Markdown."""
    tests, examples, parts = list(_tests()), _examples(), [HEADER]
    for role, rows in sorted(_rows().items(), key=lambda item: list(ROLES).index(item[0])):
        parts.append(f"## {role}\n")
        parts.append("| ksim | here | what it is | tested by |\n|---|---|---|---|")
        for name, terms in sorted(rows.items(), key=lambda item: item[0].lower()):
            ours = [f"[`{term.name}`](../{TASKS}/{term.module}.py)" for term in terms]
            shown = examples.get((role, name), [])
            proofs = [_by_name(role, name, tests)] if shown else []
            proofs += [proof for term in terms for proof in _proofs(term, tests)]
            meanings = [*(term.meaning for term in terms), *(f"**Here:** `{each}`" for each in shown)]
            cells = [f"`{name}`", _lines(ours), _lines(meanings), _lines(proofs)]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def _rows() -> dict[str, dict[str, list[Term]]]:
    """By role and ksim's name, our terms."""
    rows: dict[str, dict[str, list[Term]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((ROOT / TASKS).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                term = _term(path.stem, node)
                for name in term.stands_for:
                    rows[_role(name, term.module)][name].append(term)
    return rows


def _term(module: str, node: ast.ClassDef) -> Term:
    """A class as its docstrings tell it."""
    text = ast.get_docstring(node) or ""
    makes = {method.name: ast.get_docstring(method) for method in node.body if isinstance(method, ast.FunctionDef)}
    value = "" if module in NO_QUANTITIES else next((makes[name] for name in METHODS if makes.get(name)), None) or ""
    paragraphs = [part for part in text.split("\n\n") if part.startswith("ksim:")]
    names = [name for part in paragraphs for name in re.findall(r"\w+", part) if name not in ("ksim", "none")]
    meaning = [" ".join(part.partition("\n\n")[0].split()) for part in (text, value)]
    return Term(name=f"{module}.{node.name}", meaning=" ".join(filter(None, meaning)), stands_for=tuple(names))


def _role(name: str, module: str) -> str:
    for looks in (name, module):
        for role, pattern in ROLES.items():
            if pattern and re.search(pattern, looks):
                return role
    return "Rewards"


def _tests() -> Iterator[Proof]:
    """The tests of terms in which nothing is refused, file by file."""
    for path in sorted((ROOT / TESTS).glob("test_*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        terms = _imported_terms(body)
        uses = {name: _used(node, terms) for node in body for name in _defined(node)}
        for name, direct in uses.items():
            if name.startswith("test_") and "pytest.raises" not in (reached := _reached(direct, uses)):
                yield Proof(file=path.name, name=name, direct=direct, indirect=reached - direct)


def _imported_terms(body: list[ast.stmt]) -> dict[str, str]:
    """A file's own names for terms, or for modules of terms, and the real ones."""
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ksim_envs.tasks"):
            module = (node.module or "").removeprefix("ksim_envs.tasks").removeprefix(".")
            found |= {each.asname or each.name: f"{module}.{each.name}".lstrip(".") for each in node.names}
    return found


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def _used(node: ast.stmt, terms: dict[str, str]) -> set[str]:
    """The names in a piece of code, fixtures among them, and those of terms in full."""
    names: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            names.add(terms.get(each.id, each.id))
        elif isinstance(each, ast.arg):
            names.add(each.arg)
        elif isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            names.add(f"{terms.get(each.value.id, each.value.id)}.{each.attr}")
    return names


def _reached(names: set[str], uses: dict[str, set[str]]) -> set[str]:
    """These names, and all that their definitions use in turn."""
    found, new = set(names), set(names)
    while new:
        new = set[str]().union(*(uses.get(name, set()) for name in new)) - found
        found |= new
    return found


def _proofs(term: Term, tests: list[Proof]) -> list[str]:
    """Of the tests that use a term, the first that does so itself, the first that also has its name, and one more.

    That is the first that uses it by way of a table, a helper or a fixture.

    Raises:
        LookupError: no test uses it.
    """
    using = [test for test in tests if term.name in test.direct | test.indirect]
    if not using:
        raise LookupError(f"No test in {TESTS} uses {term.name}; write one.")
    using = [test for test in using if test.file == f"test_{term.module}.py"] or using
    direct = [test for test in using if term.name in test.direct]
    words = re.findall(r"[A-Z][a-z]+", term.name)
    named = [test for test in direct if "_".join(words).lower() in test.name]
    indirect = [test for test in using if term.name in test.indirect]
    return [_link(found[0]) for found in (direct, named, indirect) if found]


def _by_name(role: str, name: str, tests: list[Proof]) -> str:
    """The test that has cases of this name of ksim's."""
    test = next(test for test in tests if (test.file, test.name) == ("test_ksim_terms.py", BY_NAME[role]))
    return _link(test, f"[{name}]")


def _examples() -> dict[tuple[str, str], list[str]]:
    """By role and ksim's name, what takes its place, as `ksim_terms.py` puts it together; of a sum all parts."""
    body = ast.parse((ROOT / TESTS / "ksim_terms.py").read_text(encoding="utf-8")).body
    spelt = _SpeltOut({ast.unparse(node.targets[0]): node.value for node in body if isinstance(node, ast.Assign)})
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            role = "Commands" if ast.unparse(node.target) == "COMMANDS" else "Rewards"
            for key, case in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(case, ast.Tuple):
                    term = ast.unparse(spelt.visit(case.elts[0]))
                    found[role, str(key.value).split("/")[0]].append(term)
    return found


@dataclass(frozen=True)
class _SpeltOut(ast.NodeTransformer):
    """Puts in place of a file's constants what they are."""

    constants: dict[str, ast.expr]

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.visit(self.constants[node.id]) if node.id in self.constants else node


def _link(test: Proof, case: str = "") -> str:
    return f"[`{test.name}{case}`](../{TESTS}/{test.file})"


def _lines(items: Iterator[str] | list[str]) -> str:
    """A cell with a line for each item, none of them twice."""
    return "<br>".join(dict.fromkeys(item.replace("|", "\\|") for item in items))


if __name__ == "__main__":
    main()
