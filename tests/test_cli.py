"""The command line: what it prints, its exit codes, and what it does not import."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import diffkit as dk
from diffkit import cli
from diffkit.backends import BACKENDS
from diffkit.differentiation import differentiate
from diffkit.nn.zoo import network
from diffkit.validation.crosscheck import cross_check

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments), prog_name="diffkit")


def strict(text: str) -> Any:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


# ------------------------------------------------------------------ the package and its start


def test_every_public_name_is_there() -> None:
    for name in dk.__all__:
        assert getattr(dk, name) is not None
    assert set(dir(dk)) == set(dk.__all__)
    with pytest.raises(AttributeError, match="no attribute 'derivate'"):
        dk.derivate  # noqa: B018


def test_every_error_is_public() -> None:
    import diffkit.errors

    defined = {name for name, value in vars(diffkit.errors).items() if isinstance(value, type)}
    assert {name for name in defined if issubclass(getattr(diffkit.errors, name), Exception)} <= {
        *dk.__all__
    }


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert dk.__version__ == project["version"]
    assert run("--version").output == f"diffkit, version {project['version']}\n"


def test_importing_diffkit_imports_nothing_else() -> None:
    loaded = run_python(
        "import sys; a = set(sys.modules); import diffkit; print(set(sys.modules) - a)"
    )
    assert "numpy" not in loaded
    assert "sympy" not in loaded


def test_using_an_operator_imports_nothing_heavier_than_numpy() -> None:
    heavy = ("sympy", "mpmath", "flint", "matplotlib", "jinja2", "rich", "joblib", "click")
    loaded = run_python(
        "import sys, numpy, diffkit; diffkit.derivative(lambda x: numpy.sin(x)*x, 1.0); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_help_imports_neither_numpy_nor_sympy_nor_matplotlib() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "diffkit", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("Usage: diffkit")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"numpy", "sympy", "matplotlib", "flint", "mpmath", "rich", "jinja2"}


def test_help_names_every_command_and_backend() -> None:
    assert set(cli.main.commands) == {
        *("differentiate", "compare", "validate", "swell", "graph", "report", "problems")
    }
    for name in cli.main.commands:
        assert run(name, "--help").exit_code == 0
    for backend in BACKENDS:
        assert backend in run("differentiate", "--help").output


# ------------------------------------------------------------------ differentiate


def test_differentiate_prints_the_derivative() -> None:
    result = run("differentiate", "sin(x)*exp(-x**2)", "--at", "x=0.5")
    assert result.exit_code == 0
    assert "sin(x)*exp(-x**2) at x = 0.5" in result.output
    exact = math.exp(-0.25) * (math.cos(0.5) - math.sin(0.5))
    (line,) = [line for line in result.output.splitlines() if line.startswith("d/dx")]
    assert float(line.split()[1]) == pytest.approx(exact, rel=1e-15)


def test_the_point_may_be_given_in_every_usual_way() -> None:
    for at in (["x=1,y=2"], ["x=1", "--at", "y=2"], ["x = 1 , y = 4/2"], ["y=sqrt(4),x=e/e"]):
        result = run("differentiate", "x*y**2", "--json", "--at", *at)
        assert strict(result.output)["at"] == {"x": 1.0, "y": 2.0}
    result = run("differentiate", "x*y", "--json", "--at", "x=atan2(1, 2),y=max(1,2)")
    assert strict(result.output)["at"] == {"x": math.atan2(1, 2), "y": 2.0}
    result = run("differentiate", "sin(t)", "--json", "--at", "-pi/4")
    assert strict(result.output)["at"] == {"t": -math.pi / 4}


def test_every_backend_says_the_same_or_why_not() -> None:
    result = run("differentiate", "x**3", "--at", "2", "--backend", "all", "--json")
    assert result.exit_code == 0
    content = strict(result.output)
    assert [r["backend"] for r in content["results"]] == list(BACKENDS)
    for entry in content["results"]:
        if entry["entries"] is None:
            assert entry["backend"] == "analytic"
            assert "no closed form" in entry["error"]
        else:
            assert entry["entries"]["d/dx"] == pytest.approx(12, rel=1e-10)


def test_several_variables_give_the_gradient_and_the_hessian() -> None:
    arguments = ("differentiate", "x**2*y**3", "--at", "x=1,y=2", "--json")
    first = strict(run(*arguments).output)["results"][0]["entries"]
    assert first == {"d/dx": 16.0, "d/dy": 12.0}
    second = strict(run(*arguments, "--order", "2").output)["results"][0]["entries"]
    assert second == {"d^2/dx^2": 16.0, "d^2/dx dy": 24.0, "d^2/dy^2": 12.0}
    held = strict(run(*arguments, "--order", "3", "--wrt", "y").output)["results"][0]["entries"]
    assert held == {"d^3/dy^3": 6.0}
    assert "order 3 needs one variable" in run(*arguments, "--order", "3").stderr
    assert "no variable 'z'" in run(*arguments, "--wrt", "z").stderr


def test_latex_gives_the_formula_in_the_users_own_names() -> None:
    arguments = ("--latex", "--json")
    one = strict(run("differentiate", "t**3", "--at", "2", "--order", "2", *arguments).output)
    assert one["latex"] == {"d^2/dt^2": "6 t"}
    many = strict(run("differentiate", "a*b**2", "--at", "a=1,b=2", *arguments).output)
    assert many["latex"] == {"d/da": "b^{2}", "d/db": "2 a b"}
    held = strict(
        run("differentiate", "a*b**2", "--at", "a=1,b=2", "--wrt", "b", *arguments).output
    )
    assert held["latex"] == {"d/db": "2 a b"}
    branch = run("differentiate", "t**2 if t > 1 else 0", "--at", "2", "--latex").output
    assert "d/dt = 2 t" in branch
    assert "This formula holds where t > 1." in branch


def test_a_variable_the_text_lacks_may_be_named() -> None:
    assert strict(run("differentiate", "3", "--at", "x=1", "--json").output)["results"][0][
        "entries"
    ] == {"d/dx": 0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x^2", "--at", "1"], "Error: '^' is not part of an expression; use ** for a power, at"),
        (["x", "--at", "x=1^2"], "Error: in --at x: '^' is not part of"),
        (["x", "--at", "x=nan"], "Error: in --at x: unknown name 'nan'"),
        (["log(x)", "--at", "-1"], "Error: log(x) is nan there"),
        (["sqrt(x)", "--at", "0"], "Error: the derivative of sqrt(x) by tape is not finite"),
        (["x**2", "--at", "1", "--backend", "analytic"], "Error: no closed form is known"),
    ],
)
def test_our_errors_are_one_line_and_exit_code_1(arguments: list[str], message: str) -> None:
    result = run("differentiate", *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        ["differentiate"],
        ["differentiate", "x"],
        ["differentiate", "3"],
        ["differentiate", "x*y", "--at", "x=1"],
        ["differentiate", "x*y", "--at", "1"],
        ["differentiate", "x", "--at", "x=1,x=2"],
        ["differentiate", "x", "--at", "1", "--order", "0"],
        ["differentiate", "x", "--at", "1", "--backend", "magic"],
        ["compare"],
        ["compare", "x", "--at", "1", "--problem", "quadratic"],
        ["compare", "--problem", "quadratic", "--at", "1"],
        ["compare", "--problem", "no-such"],
        ["validate"],
        ["validate", "--network", "no-such"],
        ["report", "no-such-chapter"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_a_refusal_in_json_is_null_with_the_error() -> None:
    result = run("differentiate", "x**2", "--at", "1", "--backend", "analytic", "--json")
    assert result.exit_code == 1
    (entry,) = strict(result.stdout)["results"]
    assert entry["entries"] is None
    assert "no closed form" in entry["error"]


def test_where_every_backend_refuses_each_says_why_once() -> None:
    result = run("differentiate", "sqrt(x)", "--at", "0", "--backend", "all")
    assert result.exit_code == 1
    assert result.stdout == ""
    first, *reasons = result.stderr.splitlines()
    assert first == "Error: every backend refuses"
    assert [reason.split(":")[0] for reason in reasons] == list(BACKENDS)


def test_ctrl_c_is_quiet_and_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffkit.differentiation.differentiate", interrupted)
    result = run("differentiate", "x", "--at", "1")
    assert result.exit_code == 130
    assert result.output == ""


def test_a_warning_is_one_line_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def warned(*_: Any, **__: Any) -> Any:
        import warnings

        warnings.simplefilter("always")
        warnings.warn("mind\nthe gap", dk.DiffkitWarning, stacklevel=1)
        return differentiate(dk.parse("x"), {"x": 1.0}, backends=["tape"])

    monkeypatch.setattr("diffkit.differentiation.differentiate", warned)
    result = run("differentiate", "x", "--at", "1")
    assert result.exit_code == 0
    assert result.stderr == "Warning: mind the gap\n"


def test_a_terminal_gets_colours_if_the_table_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    for columns, coloured in (("100", True), ("50", False)):
        monkeypatch.setenv("COLUMNS", columns)
        command = ["differentiate", "sin(x)", "--at", "1", "--backend", "all"]
        cli.main(command, standalone_mode=False)
        printed = capsys.readouterr().out
        assert ("\x1b" in printed) == coloured
        assert f" {math.cos(1)!r}" in printed, "a number is never broken"


def test_elsewhere_lines_are_plain_and_as_wide_as_they_need() -> None:
    result = run("differentiate", "sin(x)*exp(-x**2)", "--at", "x=0.5", "--backend", "all")
    assert "\x1b" not in result.output
    header, _, numbers = result.output.splitlines()[2:5]
    assert header.split() == list(BACKENDS)
    assert len(numbers.split()) == 1 + len(BACKENDS)


# ------------------------------------------------------------------ compare and problems


def test_compare_shows_every_backend_against_the_truth() -> None:
    result = run("compare", "sin(x)*exp(-x**2)", "--at", "x=0.2")
    assert result.exit_code == 0
    assert all(backend in result.output for backend in BACKENDS)
    content = run("compare", "x*y", "--at", "x=0.2,y=3", "--json")
    assert strict(content.output)


def test_problems_are_listed_and_can_be_compared() -> None:
    listed = strict(run("problems", "--json").output)
    assert [p["name"] for p in listed] == list(dk.problems.PROBLEMS)
    assert all(p["name"] in run("problems").output for p in listed)
    result = run("compare", "--problem", "quadratic", "--json")
    assert result.exit_code == 0
    assert strict(result.output)


# ------------------------------------------------------------------ validate


def test_validate_holds_every_backend_against_the_symbolic_one() -> None:
    result = run("validate", "--network", "iris-mlp", "--json")
    assert result.exit_code == 0
    content = strict(result.output)
    assert content["verdict"] == "agree"
    assert content["parameters"] == 131
    rows = content["rows"]
    assert {row["parameter"] for row in rows} == {"layer1.W", "layer1.b", "layer2.W", "layer2.b"}
    assert {row["backend"] for row in rows} == {"analytic", "finite", "tape"}
    assert all(row["relative"] < 1e-11 for row in rows)
    assert "verdict: agree" in run("validate", "--network", "mazur").output


def test_a_wrong_gradient_is_named_by_backend_and_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diffkit.backends.analytic import Analytic

    original = Analytic.prepare

    def off_by_a_millionth(self: Analytic, *arguments: Any, **options: Any) -> Any:
        prepared = original(self, *arguments, **options)
        estimate = prepared.estimate(*arguments[1:])
        estimate.value["layer2"]["b"][1] *= 1 + 1e-6
        prepared.estimate = lambda *_: estimate  # type: ignore[method-assign]
        return prepared

    monkeypatch.setattr(Analytic, "prepare", off_by_a_millionth)
    case = network("mazur")
    result = cross_check(case.loss, case.parameters, *case.data)
    assert result.verdict == "disagree"
    wrong = [row for row in result.rows if row.verdict != "agree"]
    assert [(row.backend, row.parameter) for row in wrong] == [("analytic", "layer2.b")]
    shown = run("validate", "--network", "mazur")
    assert shown.exit_code == 1
    assert "do not agree" in shown.stderr


def test_a_backend_that_refuses_leaves_the_check_unresolved() -> None:
    def loss(w: Any) -> Any:
        return np.sum(np.sin(w) ** 2)

    result = cross_check(loss, np.array([0.5, 2.0]))
    assert result.verdict == "unresolved"
    assert set(result.refusals) == {"analytic"}
    assert {row.verdict for row in result.rows} == {"agree"}
    assert "analytic refuses" in str(result)
    zero = cross_check(lambda w: np.sum(0 * w), np.zeros(2), backends=("tape",))
    assert zero.verdict == "agree"


# ------------------------------------------------------------------ report


def test_report_writes_the_page_and_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []

    def build(*chapters: str, **options: Any) -> Path:
        calls.append((chapters, options))
        return tmp_path / "index.html"

    opened: list[str] = []
    monkeypatch.setattr("diffkit.reporting.build.report", build)
    monkeypatch.setattr("click.launch", opened.append)
    out = str(tmp_path)
    result = run("report", "round-off", "--quick", "--out", out, "--jobs", "2", "--open")
    assert result.exit_code == 0
    assert str(tmp_path / "index.html") in result.output
    assert calls == [(("round-off",), {"out": out, "quick": True, "jobs": 2})]
    assert opened == [(tmp_path / "index.html").as_uri()]


# ------------------------------------------------------------------ swell


def test_swell_measures_every_form_of_a_formula() -> None:
    result = run("swell", "exp(x)*sin(x*y)", "--at", "x=1,y=2", "--json")
    assert result.exit_code == 0
    content = strict(result.output)
    assert {row["form"] for row in content["rows"]} >= {"expanded", "shared", "tape"}
    assert all(row["error_ulps"] < 10 for row in content["rows"])
    third = run("swell", "sin(x)", "--at", "x=1", "--order", "3", "--form", "shared").output
    assert third.splitlines()[-1].startswith("shared")


def test_swell_measures_a_family(tmp_path: Path) -> None:
    figure = str(tmp_path / "growth.svg")
    arguments = ("--family", "logistic", "--sizes", "1,2,3", "--form", "multiplied out")
    result = run("swell", *arguments, "--figure", figure, "--json")
    assert [row["tree"] for row in strict(result.output)["rows"]] == [0, 2, 8]
    assert Path(figure).read_text("utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Give either an expression or --family NAME."),
        (["x", "--family", "logistic"], 2, "Give either"),
        (["x", "--at", "1", "--sizes", "1"], 2, "leave out --sizes"),
        (["--family", "logistic", "--order", "2"], 2, "points and orders of its own"),
        (["--family", "logistic", "--sizes", "1;2"], 2, "is not N,N,..."),
        (["--family", "logistic", "--sizes", "0"], 1, "must be positive integers"),
        (["--family", "no"], 2, "'no' is not one of logistic, speelpenning"),
        (["x", "--at", "1", "--form", "no"], 2, "'no' is not one of multiplied out, expanded"),
        (["x", "--at", "1", "--form", "tape", "--figure", "a.gif"], 1, "must end in .svg or .png"),
    ],
)
def test_swell_refuses_what_makes_no_sense(arguments: list[str], code: int, message: str) -> None:
    result = run("swell", *arguments)
    assert result.exit_code == code
    assert message in result.stderr


# ------------------------------------------------------------------ the output


@pytest.mark.parametrize("arguments", [["problems"], ["--help"], ["problems", "--json"]])
def test_a_full_disk_is_a_plain_error(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "diffkit", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == "Error: the output cannot be written: No space left on device\n"


def test_other_errors_of_the_system_are_not_taken_for_a_full_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr("diffkit.comparison.compare", fail)
    result = run("compare", "x", "--at", "1")
    assert isinstance(result.exception, PermissionError)
