"""Code, documentation, help texts and errors use the field's words, in American spelling (docs/glossary.md)."""

import ast
import re
from pathlib import Path

import click
import pytest

import cli

ROOT = Path(__file__).parents[1]
FOLDERS = ("numbacnn", "cli", "docs", "tests", "benchmarks", "examples", "tools")
FILES = sorted(
    [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".toml")]
    + [*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / ".ci" / "run"]
)
SOURCES = [path for path in FILES if path.suffix == ".py"]

# Retired words, as regular expressions that match whole words and parts of identifiers, and what to write instead.
RETIRED = {
    "afresh|anew": "again",
    "ask_ahead": "prefetch",
    "as (it|they|memory) lies?": "as stored",
    "behind": "after, following",
    "beside": "next to, besides, with",
    "brought": "converted, normalized",
    "by (it|them)sel(f|ves)": "on its own, separately, automatically",
    "damping": "modulating factor",
    "epsilon": "eps",
    "foresee[a-z]*": "predict, prefetch",
    "goes on": "continues",
    "goes_past_caches|past the caches": "non-temporal store",
    "hands? on": "pass on",
    "heed(s|ed|ing)?": "use, respect",
    "hits": "correct",
    "is no": "is not a",
    "is_own|own[ _]layers?|(layers?|kernels?) of (one's|your) own|user's own": "custom",
    "json's types": "JSON object, JSON values",
    "judge_step": "decide_update",
    "kin": "variants",
    "lay|lie|lies": "is, is stored",
    "learner": "trainable model",
    "least(_[a-z]+)?": "smallest, minimum; min_",
    "likeliest": "top-1, most probable",
    "maxima_[a-z_]+|conv2d_maxima|takes_maxim(a|um)": "pool_backward, is_max_pool, accepts_pool_gradient",
    "most_[a-z]+": "max_",
    "(?-i:NOTHING)": "EMPTY",
    "ought": "should",
    "places?": "position, offset, index, address, folder",
    "planned\\.py|probing": "device augmentation, inspection",
    "refus(e|es|ed|al|als|ing)": "reject, raise",
    "register[ _]tiles?|(window|tap|pixel)[ _]tiles?": "microkernel",
    "resident": "device loop",
    "rightly": "correctly",
    "roofs?": "peaks, ceilings",
    "so many": "a number, N",
    "sound": "intact, decoded",
    "stands?": "is, is stored",
    "strangers?": "untrusted",
    "surest": "most confident",
    "surprise": "negative log-likelihood",
    "tally": "counters",
    "tells?|told": "report, show, say; log_sum_exp",
    "tile_products|product_(item|chunk|rows)": "gemm, gemm_item, gemm_chunk, gemm_rows",
    "verdict": "decision",
    "wants": "needs",
    "wish(es|ed)?": "request, desired",
    "add_what_was": "add bias or C",
}
BRITISH = {
    "(normal|optim|initial|summar|orthogonal|minim|maxim|penal|vector|parallel|serial|quant|recogn|regular|synchron|"
    "general|special|organ|final|util|equal|local|linear|random|standard|character)is(e|es|ed|er|ers|ing|ation|ations|"
    "able)": "-iz-",
    "(col|neighb|behavi|fav)our[a-z]*": "-or",
    "centre[ds]?": "center",
    "grey(s|scale)?": "gray",
    "licen[c]e": "license",
    "(labell|modell|cancell|travell)(ed|ing)": "-l-",
    "artefacts?": "artifact",
    "learnt|spelt|burnt": "-ed",
    "analys(e|ed|es(?! of)|ing)": "-yz-",
    "judgement|fulfil|defence|catalogue": "judgment, fulfill, defense, catalog",
}
# Terms that contain a retired word, which the test does not read.
TERMS = (
    r"at[-_ ](least|most)|least (squares|significant)|most_(common|confident|confused|guesses)|in place of|"
    r"in[-_ ]place|(last|decimal)[-_ ]places?|resident[_ ](memory|set|peak)|_resident\(|cache hits|there is no|"
    r"is no (longer|more)|stands? (for|in for)|\.tell\(|lays?[_ ]out|machine epsilon|epsilon[=\"']|"
    r"\"unlabelled\"|Introduction to colour|connection refused|(vision|cnn|unet|load)_learner|\"Learner\""
)
OPENERS = {"What", "Of", "Where", "As", "See", "How", "That"}  # first words of a sentence without a subject


def compiled(pattern):
    """Ignore case; a space also matches the end of a line."""
    return re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE)


NOT_READ = compiled(TERMS)
PATTERNS = [(compiled(f"(?<![a-z])({pattern})(?![a-z])"), replacement) for pattern, replacement in RETIRED.items()]
PATTERNS += [(compiled(f"({pattern})(?![a-z])"), replacement) for pattern, replacement in BRITISH.items()]
ANY = compiled(f"((?<![a-z])({'|'.join(RETIRED)})|{'|'.join(BRITISH)})(?![a-z])")  # one pass instead of sixty


def findings(text):
    """Yield (line number, message) for every retired word."""
    text = NOT_READ.sub(lambda match: "\n" * match[0].count("\n"), text)
    for pattern, replacement in PATTERNS if ANY.search(text) else ():
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield line, f"{match.group(1)!r}; write {replacement}"


def readable(path):
    """Read a file; of the changelog, without the table of old names."""
    text = path.read_text("utf-8")
    return re.sub(r"(?m)^\|.*", "", text) if path.name == "CHANGELOG.md" else text


def name(path):
    return path.relative_to(ROOT).as_posix()


def report(found):
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_files_have_no_retired_words():
    report(
        [
            f"{name(path)}:{n}: {what}"
            for path in FILES
            if path != Path(__file__)
            for n, what in findings(readable(path))
        ]
    )


def test_docstrings_begin_with_a_subject_or_a_verb():
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            text = (ast.get_docstring(node) if documented else None) or ""
            if text.partition(" ")[0] in OPENERS:
                found.append(f"{name(path)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    report(found)


def commands(command, context):
    """Yield every command with its context."""
    yield command, context
    for sub in command.commands.values() if isinstance(command, click.Group) else ():
        yield from commands(sub, click.Context(sub, parent=context, info_name=sub.name))


def test_help_has_no_retired_words():
    """Help has text from functions and registries, besides that of the command line's own sources."""
    context = click.Context(cli.commands, info_name="numbacnn")
    pages = {context.command_path: command.get_help(context) for command, context in commands(cli.commands, context)}
    assert len(pages) > 10
    report([f"{path} --help: {what}" for path, page in pages.items() for _, what in findings(page)])


@pytest.mark.parametrize(
    "line",
    [
        "the layer behind it", "BEHIND = 3", "x.takes_maximum", "the place of a buffer", "it is no layer", "colour",
        "normalised", "unnormalised", "least_rows", "is refused", "test_others_are_refused", "it is\n    no layer",
    ],
)  # fmt: skip
def test_retired_words_are_found(line):
    assert list(findings(line))


@pytest.mark.parametrize(
    "line", ["at least 3", "updated in place", "in place of x", "replace", "believe", "colors", "at_least_2d"]
)
def test_other_words_are_not(line):
    assert not list(findings(line))


def test_every_file_is_read():
    assert len(FILES) > 200
    assert len(SOURCES) > 150
