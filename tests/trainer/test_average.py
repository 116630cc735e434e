"""Averages of checkpoints: their weights, the model folder that they make, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from curricula.types import CurriculaError
from tests.trainer.learning import make_learner, ragged_sequences
from tests.trainer.recipes import simulated
from trainer import checkpoint
from trainer.checkpoint import Checkpoint
from trainer.cli import main
from trainer.lr.averages.average import varied
from trainer.lr.averages.model import MASTERS, WEIGHTS, average
from trainer.lr.averages.weights import as_decay, ema, uniform
from trainer.recipe import parse_recipe
from trainer.run_folder import chosen
from trainer.schedules.cool_downs import COOL_DOWNS, NEED_A_FLOOR
from trainer.settings import LoraSettings

# -- weights --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 6, 97])
def test_weights_are_shares_that_add_up_to_one(n: int) -> None:
    decays = [as_decay(n, shape, floor) for shape in COOL_DOWNS for floor in (0.0, 0.1, 1.0) if floor or shape not in NEED_A_FLOOR]
    for weights in (uniform(n), ema(n), ema(n, 1.0), ema(n, 1e-3), *decays):
        assert weights.shape == (n,)
        assert weights.min() >= 0
        assert abs(math.fsum(weights) - 1) <= 1e-15


def test_known_weights() -> None:
    np.testing.assert_allclose(ema(6), [0.32768, 0.08192, 0.1024, 0.128, 0.16, 0.2], rtol=1e-12)
    np.testing.assert_allclose(as_decay(5, "linear"), np.full(5, 0.2), rtol=1e-12)
    expected = [0.447214, 0.185242, 0.142141, 0.119831, 0.105573]
    np.testing.assert_allclose(as_decay(5, "one_minus_sqrt"), expected, atol=5e-7)
    assert ema(3, 1.0).tolist() == [0, 0, 1], "the newest alone"
    assert as_decay(3, "linear", floor=1.0).tolist() == [0, 0, 1], "no decay is the newest checkpoint"


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("shape", COOL_DOWNS)
def test_a_merge_is_the_end_of_the_decayed_run_when_gradients_do_not_depend_on_the_weights(shape: str, kind: str) -> None:
    """Four checkpoints, seven updates apart; the decayed run begins at the first, in the optimiser's state of then."""
    gradients = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, apart, n, floor = 12, 7, 4, 0.05
    constant = trained(gradients[: first + (n - 1) * apart], kind, lambda t: 1.0)
    saved = constant[first::apart]
    assert len(saved) == n
    stairs = [1.0] * first + [COOL_DOWNS[shape](i / n, floor) for i in range(1, n) for _ in range(apart)]
    decayed = trained(gradients[: len(stairs)], kind, lambda t: stairs[t])[-1]
    merged = sum(weight * weights for weight, weights in zip(as_decay(n, shape, floor).tolist(), saved, strict=True))
    torch.testing.assert_close(merged, decayed, rtol=0, atol=1e-14)
    assert (merged - saved[-1]).abs().max() > 1e-3, "and not simply the last checkpoint"


def trained(gradients: torch.Tensor, kind: str, factor: Any) -> list[torch.Tensor]:
    """The weights before each update and after the last, by torch's optimisers."""
    weights = torch.zeros(gradients.shape[1], dtype=torch.float64, requires_grad=True)
    made = {
        "sgd": lambda: torch.optim.SGD([weights]),
        "momentum": lambda: torch.optim.SGD([weights], momentum=0.9),
        "adam": lambda: torch.optim.AdamW([weights], weight_decay=0.0),
    }
    optimizer = made[kind]()
    seen = [weights.detach().clone()]
    for t, gradient in enumerate(gradients):
        weights.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = 0.01 * factor(t)
        optimizer.step()
        seen.append(weights.detach().clone())
    return seen


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform(0), "expected one checkpoint at least, got 0"),
        (lambda: ema(3, 0.0), "expected an alpha above 0 and at most 1, got 0"),
        (lambda: as_decay(3, "liner"), "did you mean 'linear'"),
        (lambda: as_decay(3, "geometric"), "expected a floor in .* above 0.*got 0.0 with shape 'geometric'"),
    ],
)
def test_weights_that_are_none(call: Any, message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        call()


# -- the folder -----------------------------------------------------------------------------------------------------------------


def run_with_checkpoints(folder: Path, model: Path, n: int = 3, keep: int = 9, **settings: Any) -> Path:
    """What a run leaves: its recipe and checkpoints of a real learner, one update apart."""
    learner = make_learner(model, settings)
    recipe = parse_recipe(
        {"name": "run", "task": {"name": "running_total"}, "model": {"path": str(model)}, "run": {"keep_checkpoints": keep}}
    )
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    for step in range(1, n + 1):
        learner.step(ragged_sequences(step, version=learner.version), 1e-3)
        facts = {"step": 10 * step, "recipe": recipe.fingerprint}
        checkpoint.write(folder / "checkpoints", facts, {"a": np.zeros(1)}, learner.save, keep)
    return folder


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"dtype": "float32"}, {"lora": LoraSettings(rank=4)}], ids=str)
def test_one_checkpoint_is_itself_bit_for_bit(settings: dict[str, Any], tmp_path: Path, tiny_model_path: Path) -> None:
    run = run_with_checkpoints(tmp_path / "run", tiny_model_path, 2, **settings)
    found = chosen(run, last=1)
    average(run, found, uniform(1), {}, tmp_path / "out")
    source = found[0].folder / "model"
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    merged = json.loads(written.pop("merged.json"))
    assert written == {path.name: path.read_bytes() for path in source.iterdir()}
    assert merged["steps"] == [20]


def test_masters_are_averaged_and_rounded_once(tmp_path: Path, tiny_model_path: Path) -> None:
    run = run_with_checkpoints(tmp_path / "run", tiny_model_path, dtype="bfloat16")
    found = chosen(run)
    merged = average(run, found, ema(3), {"name": "ema"}, tmp_path / "out")
    masters = [load_file(one.folder / "optimizer.safetensors") for one in found]
    for name, tensor in model_of(tmp_path / "out").items():
        exact = sum(w * one[f"master/{name}"].double() for w, one in zip(ema(3).tolist(), masters, strict=True))
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor, exact.to(torch.bfloat16), rtol=0, atol=0)
    assert list(merged.averaged) == [MASTERS]
    rounded_before = [model_of(one.folder / "model") for one in found]
    twice = {
        name: sum(w * one[name].double() for w, one in zip(ema(3).tolist(), rounded_before, strict=True))
        for name in rounded_before[0]
    }
    assert any((twice[name].to(torch.bfloat16) != tensor).any() for name, tensor in model_of(tmp_path / "out").items())


def test_of_lora_the_merged_weights_are_averaged(tmp_path: Path, tiny_model_path: Path) -> None:
    run = run_with_checkpoints(tmp_path / "run", tiny_model_path, lora=LoraSettings(rank=4))
    found = chosen(run, steps=[10, 30])
    merged = average(run, found, uniform(2), {}, tmp_path / "out")
    assert list(merged.averaged) == [WEIGHTS]
    first, second = (model_of(one.folder / "model") for one in found)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (first[name] != second[name]).any()
    for name, tensor in model_of(tmp_path / "out").items():
        torch.testing.assert_close(tensor, ((first[name].double() + second[name].double()) / 2).to(tensor.dtype), rtol=0, atol=0)


def test_sharded_models_are_read_and_written_file_by_file(tmp_path: Path, tiny_model_path: Path) -> None:
    from huggingface_hub import save_torch_state_dict
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = run_with_checkpoints(tmp_path / "run", tiny_model_path)
    for folder in checkpoint.valid_folders(run / "checkpoints"):
        shards(folder, save_torch_state_dict)
    average(run, chosen(run), uniform(3), {}, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    expected = model_of(tmp_path / "out")
    assert all((parameter == expected[name]).all() for name, parameter in loaded.named_parameters())
    assert AutoTokenizer.from_pretrained(tmp_path / "out").decode([3]) == "0"


def shards(folder: Path, save: Any) -> None:
    """Cut a checkpoint's model into files, and commit it anew."""
    model, facts = folder / "model", json.loads((folder / "manifest.json").read_text())["facts"]
    tensors = model_of(model)
    (model / "model.safetensors").unlink()
    save(tensors, model, max_shard_size="60KB", metadata={"format": "pt"})
    kept = shutil.move(folder, folder.with_name("kept"))

    def put(partial: Path) -> None:
        shutil.copytree(kept, partial, dirs_exist_ok=True)
        (partial / "manifest.json").unlink()

    checkpoint.write(folder.parent, facts, {"a": np.zeros(1)}, put, 9)
    shutil.rmtree(kept)


# -- what is refused ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Path:
    return run_with_checkpoints(tmp_path_factory.mktemp("made") / "run", tiny_model_path)


def test_what_is_not_there_is_named_with_the_reason(made: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CurriculaError, match=r"no checkpoint after 15 steps; there are 3, after 10, 20, 30 steps.*keep_checkpoints = 9"
    ):
        chosen(made, steps=[10, 15])
    with pytest.raises(CurriculaError, match=r"expected 4 checkpoints or more; there are 3.*keep_checkpoints = 9"):
        chosen(made, last=4)
    with pytest.raises(CurriculaError, match=r"no recipe\.yaml in it; expected the folder of a run"):
        chosen(tmp_path)


def test_a_damaged_checkpoint_is_refused(made: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made, tmp_path / "run")
    path = run / "checkpoints" / "step-00000020" / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CurriculaError, match=r"step-00000020: a file does not agree with its manifest"):
        chosen(run)
    assert [one.step for one in chosen(run, steps=[30, 10])] == [10, 30], "the others are intact"


def test_checkpoints_of_other_models_are_refused(
    made: Path, tmp_path: Path, untied_model_path: Path, tiny_model_path: Path
) -> None:
    own = chosen(made, last=1)
    untied = chosen(run_with_checkpoints(tmp_path / "untied", untied_model_path, 1))
    lora = chosen(run_with_checkpoints(tmp_path / "lora", tiny_model_path, 1, lora=LoraSettings(rank=4)))
    bfloat = chosen(run_with_checkpoints(tmp_path / "bfloat16", tiny_model_path, 1, dtype="bfloat16"))
    for others, message in (
        (untied, r"lm_head\.weight is F32 \(92, 64\) there, absent in step-00000030"),
        (lora, "of it and step-00000030 one has a master of .*, the other has none"),
        (bfloat, r"is BF16 \(.*\) there, F32"),
    ):
        with pytest.raises(CurriculaError, match=message):
            average(made, [*others, *own], uniform(2), {}, tmp_path / "out")
    assert not list(tmp_path.glob("*out*")), "nothing is left behind"


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    from trainer.loop import run as train

    for name in ("one", "other"):
        train(simulated(tmp_path / name, run__n_steps=4, run__checkpoint_every=2, seed=len(name)))
    shutil.copytree(tmp_path / "other" / "checkpoints" / "step-00000002", tmp_path / "one" / "checkpoints" / "step-00000001")
    with pytest.raises(CurriculaError, match=r"step-00000001: it is of the recipe \w+, which the log of .*one does not know"):
        chosen(tmp_path / "one")
    with pytest.raises(CurriculaError, match=r"expected 3 checkpoints or more; there are 2.*keep_checkpoints = 2 removes all but"):
        chosen(tmp_path / "other", last=3)
    train(simulated(tmp_path / "other", run__n_steps=4, run__checkpoint_every=1, run__keep_checkpoints=3, seed=5), resume=True)
    found = chosen(tmp_path / "other")
    assert [one.step for one in found] == [2, 4], "a resumed run is one run, though its recipe has changed"
    with pytest.raises(CurriculaError, match="no model in it"):
        average(tmp_path / "other", found, uniform(2), {}, tmp_path / "out")


def test_a_rate_that_is_not_known_hides_no_change() -> None:
    assert varied([math.nan, 1e-6, 2e-6])
    assert not varied([math.nan, 1e-6, 1.005e-6])
    assert not varied([math.nan])


def test_weights_and_folders_are_checked(made: Path, tmp_path: Path) -> None:
    found: list[Checkpoint] = chosen(made, last=2)
    for weights in (uniform(3), np.array([0.5, 0.6]), np.array([1.5, -0.5])):
        with pytest.raises(CurriculaError, match="expected 2 weights >= 0 that add up to 1"):
            average(made, found, weights, {}, tmp_path / "out")
    with pytest.raises(CurriculaError, match="it is there already"):
        average(made, found, uniform(2), {}, tmp_path)


# -- the command ----------------------------------------------------------------------------------------------------------------


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["lr", "average", *arguments])
    return int(ended.value.code or 0)


def test_the_command(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--last", "3", "--weights", "as_decay", "--shape", "one_minus_sqrt", "--floor", "0.1"]
    assert call(str(made), *options, "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert str(out) in said
    assert MASTERS in " ".join(said.split())
    merged = json.loads((out / "merged.json").read_text())
    assert merged["steps"] == [10, 20, 30]
    assert merged["weights"] == as_decay(3, "one_minus_sqrt", 0.1).tolist()
    assert merged["how"] == {"name": "as_decay", "shape": "one_minus_sqrt", "floor": 0.1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--last", "2", "--steps", "10"], "give one of them"),
        (["--steps", "10;20"], "expected numbers of steps such as 10,20,30, got '10;20'"),
        (["--weights", "as_decy"], "did you mean 'as_decay'"),
        (["--alpha", "0.2"], "--alpha is not of --weights uniform, which has no option"),
        (["--weights", "ema", "--shape", "linear"], "--shape is not of --weights ema, which has --alpha"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], message: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(str(made), *options, "--out", str(tmp_path / "out")) == 2
    assert message in capsys.readouterr().err
