"""What every verb of every family takes and gives: any numbers, and gradients where one trains."""

import warnings
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from scipy import sparse
from tiny import TINY, N
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.cli.main import main
from zoo.verbs import images, tensor

OF_DATA = ("posterior", "encode", "log_prob", "classify", "reconstruct", "forward")
OF_CODES = ("likelihood", "decode")


def given_data(model, batch):
    """The model whose verbs take data, with the batch's condition, data, and a code of each."""
    model, x = model.conditioned(batch), model.inputs(batch)
    return model, x, model.encode(x)


def arguments(model, x, z):
    """What each verb of a model takes, by its name."""
    has = {*model.verbs(), "forward"}
    of = dict.fromkeys(OF_DATA, x) | dict.fromkeys(OF_CODES, z)
    return {verb: argument for verb, argument in of.items() if verb in has}


def numbers(found):
    """What a verb gave, of a distribution a draw."""
    torch.manual_seed(0)
    return found.sample() if isinstance(found, Distribution) else found


def forms(x):
    """The same numbers in everything that users have them in."""
    if isinstance(x, Mapping):
        (key, values), lengths = next(iter(x.items())), x["lengths"]
        yield {name: value.numpy() for name, value in x.items()}
        yield {name: value.tolist() for name, value in x.items()}
        yield {key: values.numpy().astype(np.uint16), "lengths": lengths.int()}
        yield [row[:n].tolist() for row, n in zip(values, lengths.tolist(), strict=True)]
        yield [row[:n].numpy()[::-1][::-1] for row, n in zip(values, lengths, strict=True)]
        return
    array = x.numpy()
    readonly = array.copy()
    readonly.flags.writeable = False
    yield from (array, readonly, array.tolist(), [*array], [*x], np.asfortranarray(array))
    yield np.flip(np.flip(array).copy())  # of negative strides
    yield array.astype(array.dtype.newbyteorder(">"))
    if not x.is_floating_point():
        yield from (array.astype(kind) for kind in ("uint8", "int16", "uint16", "uint64"))
        yield x.to(torch.uint8)
        return
    yield from (x.double(), array.astype(np.float64), array.astype(np.longdouble))
    if (x == x.round()).all() and x.ndim == 2 and (x >= 0).all():
        yield from (array.astype(np.uint16), x.int(), sparse.csr_matrix(array))


def test_a_verb_takes_tensors_arrays_and_lists(model, batch):
    model, x, z = given_data(model, batch)
    for verb, argument in arguments(model, x, z).items():
        wanted = numbers(getattr(model, verb)(argument))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for form in forms(argument):
                found = numbers(getattr(model, verb)(form))
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_whole_numbers_are_numbers(case):
    if case.tiny.data is not None:
        return
    model, x = case.exported, torch.randint(0, 9, (N, 5))
    for verb in {*arguments(model, x, x)} & {*OF_DATA}:
        wanted = numbers(getattr(model, verb)(x.float()))
        for form in (x, x.tolist(), x.numpy().astype(np.uint16), x.short(), x.to(torch.uint16)):
            torch.testing.assert_close(numbers(getattr(model, verb)(form)), wanted)


def test_a_model_in_double_takes_floats(model, batch):
    model, x, z = given_data(model.double(), batch)
    for verb, argument in arguments(model, x, z).items():
        if isinstance(argument, Tensor) and argument.is_floating_point():
            argument = argument.float()
        assert numbers(getattr(model, verb)(argument)).dtype in (torch.float64, torch.int64)


def test_what_is_no_data_is_refused_in_a_sentence(model, batch):
    model, x, z = given_data(model, batch)
    for verb, argument in arguments(model, x, z).items():
        call = getattr(model, verb)
        bad = ["text", [["a", "b"]], [[None]], None, [[1.0, 2.0], [1.0]], [], object()]
        if isinstance(argument, Tensor):
            bad += [argument[:0], argument.numpy()[:0], argument.to(torch.complex64)]
            bad += [argument.flatten()[:0], np.zeros((2, 2), "datetime64[s]")]
        for other in bad:
            if model.modality == "sequence" and isinstance(other, list) and other == [[1.0, 2.0]]:
                continue
            with pytest.raises(ValueError, match=r"^\S.*\S$"):
                call(other)
    if model.modality == "image":
        with pytest.raises(ValueError, match=r"dtype torch\.uint8; divide by 255"):
            model.encode((255 * x).to(torch.uint8).numpy())


@pytest.mark.parametrize(("n", "why"), [(0, "at least 1"), (-3, "at least 1"), (2.0, "whole")])
def test_so_many_samples_cannot_be(model, n, why):
    if "sample" not in model.verbs():
        return
    with pytest.raises(ValueError, match=rf"^n is {n}, but must be .*{why}"):
        model.sample(n)
    assert len(model.sample(np.int64(2))) == len(model.sample(n=2)) == 2


# --- gradients -----------------------------------------------------------------------------------


def parts(found):
    """All tensors that come out of what a verb gave."""
    if isinstance(found, Tensor):
        return [found]
    found_parts = []
    for name in ("mean", "stddev", "marginals", "centre"):
        try:
            found_parts.append(getattr(found, name))
        except (AttributeError, NotImplementedError):
            continue
    draws = [found.sample(), *([found.rsample()] if found.has_rsample else [])]
    again = [draw.clone() for draw in draws]  # whose density is not kept from the draw
    return found_parts + draws + [found.log_prob(draw) for draw in draws + again]


def test_no_gradients_where_nobody_trains(model, batch):
    model, x, z = given_data(model, batch)
    results = [getattr(model, v)(a) for v, a in arguments(model, x, z).items()]
    results += [model.prior()] if "prior" in model.verbs() else []
    for result in results:
        for part in parts(result):
            part.numpy()  # which needs it


def test_gradients_where_somebody_trains(model, batch):
    learns = model.loss(batch)["loss"].requires_grad  # in eval mode, too
    fixed, _, z = given_data(model.train(), batch)
    assert learns == model.loss(batch)["loss"].requires_grad
    if learns and z.is_floating_point() and "decode" in model.verbs():
        assert z.requires_grad
        assert fixed.decode(z.detach()).requires_grad
    assert not model.in_loss


def test_gradients_of_inputs_that_require_them(model, batch):
    model, x, z = given_data(model, batch)
    has = model.verbs()
    if not z.is_floating_point() or model.modality == "document":
        return
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.encode(x).sum(), x)
    assert slope.any()
    z.requires_grad_()
    if "decode" in has:
        assert model.decode(z).requires_grad
    if "prior" in has:
        torch.autograd.grad(model.prior().log_prob(z).sum(), z)


# --- forward and predictions ---------------------------------------------------------------------


def test_forward_reconstructs_or_classifies(model, batch):
    model, x, _ = given_data(model, batch)
    verb = "reconstruct" if "reconstruct" in model.verbs() else "classify"
    assert torch.equal(model(x), getattr(model, verb)(x))


def test_a_model_that_does_neither_says_so():
    class Sampler(zoo.LatentVariableModel):
        modality = "image"

        def sample(self, n):
            return torch.zeros(n, 1, 2, 2)

        def loss(self, batch):
            return {}

    with pytest.raises(NotImplementedError, match="Sampler has no forward: it neither"):
        Sampler()(torch.zeros(1, 1, 2, 2))
    with pytest.raises(NotImplementedError, match="Sampler predicts nothing"):
        Sampler().predict_step({"image": torch.zeros(1, 1, 2, 2)})


def test_a_trainer_predicts(case, model, batch):
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    data = {"dataloaders": case.tiny.loader()} if case.tiny.data is None else {}
    found = trainer.predict(model, **data or {"datamodule": case.tiny.module()})
    fixed, x, z = given_data(model, batch)
    alone = model.predict_step(batch)
    assert torch.equal(alone["code"], z)
    assert found[0].keys() == alone.keys()
    assert ("reconstruction" in alone) == ("reconstruct" in model.verbs())
    assert ("probabilities" in alone) == ("classify" in model.verbs())
    if "reconstruction" in alone:
        assert torch.equal(alone["reconstruction"], fixed.reconstruct(x))
    assert not any(value.requires_grad for part in found for value in part.values())


def test_the_command_predicts(case, model, tmp_path, capsys):
    if case.tiny.data is None:
        assert main(["predict", case.folder]) == 1
        assert "does not say what it was trained on" in capsys.readouterr().err
        return
    for name in ("found.npz", "found.csv"):
        assert main(["predict", case.folder, "--limit", "5", "-o", str(tmp_path / name)]) == 0
    with np.load(tmp_path / "found.npz") as file:
        found = dict(file)
    module = case.tiny.module()
    batch = next(iter(module.loader("test", shuffle=False, rank=0, world_size=1)))
    fixed = model.given(batch[model.condition][:5]) if model.conditions else model
    x = model.inputs({key: value[:5] for key, value in batch.items() if key != "text"})
    np.testing.assert_allclose(found["code"], fixed.encode(x), rtol=1e-4, atol=1e-5)
    header, *lines = (tmp_path / "found.csv").read_text().splitlines()
    assert len(lines) == len(found["code"]) == 5
    assert len(header.split(",")) == sum(found[k].size // 5 for k in found)
    (first,) = np.loadtxt(lines[:1], delimiter=",", ndmin=2)
    np.testing.assert_allclose(first, np.concatenate([found[k][0].flatten() for k in found]))


def test_a_model_can_be_exported(model, batch):
    model, x, _ = given_data(model, batch)
    if model.modality in ("sequence", "document"):
        return  # how much there is to compute depends on the data
    program = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(program(x), model(x))


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("name", ["AE", "GMM of vectors", "HMM", "HMM by gradient", "LDA"])
@pytest.mark.parametrize("kind", ["tuple", "tensor", "empty"])
def test_a_batch_is_a_dict(name, stage, kind, tmp_path):
    model, x = TINY[name].model(), torch.rand(8, *TINY[name].model().x_shape)
    rows = {"tuple": TensorDataset(x, x), "tensor": [*x], "empty": [{}] * 8}[kind]
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(rows, batch_size=4)
    with pytest.raises(ValueError, match=r"a batch is an? .*, but must be a dict of tensors"):
        getattr(trainer, stage)(model, *[loader] * (2 if stage == "fit" else 1))


@pytest.mark.parametrize("batch", [(torch.rand(4, 1, 8, 8),), torch.rand(4, 1, 8, 8), [], {}])
def test_zoo_evaluate_says_what_a_batch_is(batch):
    with pytest.raises(ValueError, match="must be a dict of tensors"):
        zoo.evaluate(TINY["VAE"].model().eval(), [batch])


def test_a_batch_in_double_is_trained_on(tmp_path):
    rows = [{"image": image} for image in torch.rand(8, 1, 8, 8).double()]
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = TINY["VAE"].model()
    trainer.fit(model, *[DataLoader(rows, batch_size=4)] * 2)
    assert not model.training
    assert isinstance(model.encode(rows[0]["image"][None].numpy()).numpy(), np.ndarray)


def test_values_that_no_type_holds_stay_what_they_are():
    assert tensor("x", np.array([2**62], np.uint64)).tolist() == [2**62]
    assert tensor("x", np.array([1.5], np.float16)).dtype == torch.float16
    assert images("image", np.ones((1, 2), bool)).tolist() == [[1.0, 1.0]]
