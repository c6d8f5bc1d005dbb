"""The rules of all optimizers, gathered from their files in tests/optimizers."""

import importlib
from pathlib import Path

from rule import Rule

FILES = sorted(Path(__file__).with_name("optimizers").glob("test_*.py"))
RULES: list[Rule] = [importlib.import_module(f"optimizers.{file.stem}").RULE for file in FILES]
