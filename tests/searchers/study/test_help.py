"""What `--help` says of each command, and that no command offers what it makes no use of."""

import io
import re
from dataclasses import fields

import pytest
from rich.console import Console

from searchers import baselines, beta_vaegan, densities, flow, happy_people, lego_vae, tune
from searchers.execution.cli import parse
from searchers.record.provenance import recorded_arguments
from searchers.study.help import docstrings, show_help

STUDIES = (baselines, beta_vaegan, densities, flow, happy_people, lego_vae, tune)
OF_A_SEARCH = {"--space", "--searcher", "--surrogate", "--warm-start", "--num-samples", "--trainings"}


def help_of(study, preset="quick"):
    console = Console(file=io.StringIO(), width=80)
    show_help(study.PROGRAM, study.PRESETS[preset], console)
    return console.file.getvalue()


@pytest.mark.parametrize("study", STUDIES)
def test_every_setting_is_told_once_in_80_columns(study):
    said = help_of(study)
    assert "{None" not in said and "…\n" not in said and max(map(len, said.splitlines())) <= 80
    flags = re.findall(r"^(--[a-z-]+|MODULE:CLASS)", said, re.MULTILINE)
    kind = type(study.PRESETS["quick"])
    offered = [f.name for f in fields(kind) if f.name not in kind.unused]
    assert len(flags) == len(set(flags)) == len(offered)
    assert docstrings(kind).keys() >= set(offered)


def test_a_value_stands_behind_its_setting_and_what_is_on_is_typed_to_be_off():
    said = help_of(beta_vaegan)
    assert re.search(r"--epochs N +epochs a trial, if nothing stops it \[30\]", said)
    assert "--no-early-stopping" in said and "--compile" in said and "--no-compile" not in said
    assert re.search(r"--crop \{larsen,square\} ", said)
    assert "[150]" not in said and "[10]" in help_of(beta_vaegan, "report")


@pytest.mark.parametrize("study", STUDIES)
def test_a_command_that_searches_nothing_offers_no_search(study):
    there = OF_A_SEARCH & set(re.findall(r"--[a-z-]+", help_of(study)))
    assert there == (set() if study in (baselines, happy_people) else OF_A_SEARCH)


def test_what_is_not_offered_is_not_taken_and_not_recorded(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(baselines.PROGRAM, baselines.PRESETS, ["--surrogate", "nuts"])
    assert ended.value.code == 2 and "--surrogate" in capsys.readouterr().err
    config = parse(baselines.PROGRAM, baselines.PRESETS, ["--seeds", "2"])
    assert config.seeds == 2 and config.surrogate == "fitted"
    assert recorded_arguments(config).keys().isdisjoint(baselines.BaselinesConfig.unused)


def test_help_is_shown_of_the_preset_that_is_asked_for(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(lego_vae.PROGRAM, lego_vae.PRESETS, ["--preset", "report", "--help"])
    assert ended.value.code == 0 and "the values of --preset report" in capsys.readouterr().out
