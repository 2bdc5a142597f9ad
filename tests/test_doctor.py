"""`mnistcli doctor`: what is here, said without saying whose machine it is."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest
import torch
from conftest import Cli, document, values

from mnistcli.engine import kernels


@pytest.mark.slow
def test_a_machine_without_a_gpu_is_fine(cli: Cli) -> None:
    done = cli("doctor")
    assert done.returncode == 0
    checks = {values(line)["name"]: values(line) for line in done.stdout.splitlines()
              if line.startswith("check")}  # fmt: skip
    assert {
        "device",
        "cuda",
        "bf16",
        "threads",
        "compiler",
        "data",
        "disk",
        "terminal",
    } <= (checks.keys())
    assert checks["data"]["status"] == "ok"
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.slow
def test_a_required_gpu_that_is_not_here_exits_5_with_the_report(cli: Cli) -> None:
    done = cli("doctor", "--require", "cuda", "--json")
    found = document(done.stdout)
    assert (done.returncode, found["ok"], found["error"]["exit_code"]) == (5, False, 5)
    assert "torch" in found["versions"]
    assert cli("doctor", "--require", "data", "--require", "disk").returncode == 0


@pytest.mark.slow
def test_a_required_compiler_that_fails_exits_5(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setattr(kernels, "_compile", kernels._compile.__wrapped__)
    assert cli("doctor").returncode == 0
    done = cli("doctor", "--require", "compiler")
    assert (done.returncode, "false fails" in done.stderr) == (5, True)


def test_an_unknown_check_names_the_nearest(cli: Cli) -> None:
    done = cli("doctor", "--require", "cudda")
    assert (done.returncode, "'cuda'" in done.stderr) == (2, True)


def test_the_document_names_no_user_host_or_home(
    cli: Cli, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "jane-doe")
    (tmp_path / "mnist").symlink_to(small_data)
    text = cli("doctor", "--data-dir", str(tmp_path / "mnist"), "--json").stdout
    private = (str(tmp_path), "jane-doe", platform.node())
    assert not [word for word in private if re.search(rf"\b{re.escape(word)}\b", text)]
    assert "~/mnist" in text


def test_damaged_data_and_a_bad_device_are_findings(cli: Cli, tmp_path: Path) -> None:
    done = cli("doctor", "--data-dir", str(tmp_path), "--device", "tpu")
    assert done.returncode == 0
    assert {"device", "data"} <= {*values(done.stdout.splitlines()[-1])["faults"].split(",")}
    assert cli("doctor", "--data-dir", str(tmp_path), "--require", "data").returncode == 5
