"""What suites measure is right, goes on where it was stopped, and is measured again by `verify`."""

import json
import math

import pytest
import torch
from torch.nn import functional

import zoo
from zoo import datamodules
from zoo.checkpoints import catalog
from zoo.checkpoints.files import write_text
from zoo.checkpoints.metrics import write_metrics
from zoo.cli.main import main
from zoo.datamodules import FakeImages, Sprites
from zoo.evaluation import gap, likelihood, probes
from zoo.evaluation.data import data_module
from zoo.evaluation.jackknife import with_errors
from zoo.evaluation.job import Job
from zoo.evaluation.probes import probed
from zoo.evaluation.protocol import QUICK, Protocol, quick_of
from zoo.evaluation.samples import feature_network, frechet, pairwise
from zoo.evaluation.suites import SUITES, run, work_folder
from zoo.metrics import DCI, MIG, SAP, CodebookPerplexity, FactorVAEScore, Modularity
from zoo.models import AE, GMM, PPCA, VAE, VQVAE, Classifier

DATA = {
    "class_path": "FakeImages",
    "init_args": {"x_shape": [1, 8, 8], "n": 480, "classes": 3, "binarization": "none"},
}
BINARY = {**DATA, "init_args": {**DATA["init_args"], "binarization": "dynamic"}}
SAMPLES = {"frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"}


def tiny(cls, data=DATA, **arguments):
    torch.manual_seed(0)
    model = cls(x_shape=(1, 8, 8), **arguments).eval()
    model.data = data
    return model


def vae(**arguments):
    return tiny(VAE, BINARY, **{"latent_dim": 3, "hidden": (16,), **arguments})


@pytest.fixture
def features(tmp_path, monkeypatch):
    """A shipped classifier of the data, untrained, in whose features samples are compared."""
    monkeypatch.setattr(catalog, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(catalog, "PINS", tmp_path / "cards" / "sha256.json")
    monkeypatch.setattr(FakeImages, "feature_network", "lenet-stars")
    network = tiny(Classifier, channels=(4,), features=6, labels=("0", "1", "2"))
    network.save_pretrained(tmp_path / "cards" / "lenet-stars")
    catalog.write_pins()
    return network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latent-zoo" / "evaluations"


# --- likelihood: stopped and continued -----------------------------------------------------------


class StoppedError(Exception):
    pass


def stopping(monkeypatch, model, verb, after):
    """Let a verb raise when it is called once more than so many times."""
    right, calls = getattr(model, verb), []

    def act(*args):
        calls.append(1)
        if len(calls) > after:
            raise StoppedError
        return right(*args)

    monkeypatch.setattr(model, verb, act)
    return calls


@pytest.mark.parametrize(
    ("verb", "make"), [("posterior", vae), ("log_prob", lambda: tiny(PPCA, latent_dim=2))]
)
def test_what_was_stopped_ends_with_the_same_numbers(tmp_path, monkeypatch, verb, make):
    model, protocol = make(), Protocol(samples=20, seed=3)
    whole = run(model, ["likelihood"], protocol)
    assert whole == run(make(), ["likelihood"], protocol)
    # 120 test images are two batches; each calls posterior for the draws, for k and for the units
    with monkeypatch.context() as patch:
        stopping(patch, model, verb, 4 if verb == "posterior" else 1)
        with pytest.raises(StoppedError):
            run(model, ["likelihood"], protocol, work=tmp_path)
    assert (tmp_path / "likelihood.safetensors").is_file()
    assert not (tmp_path / "likelihood.json").exists()
    torch.rand(7)  # another process has other random numbers
    with monkeypatch.context() as patch:
        calls = stopping(patch, model, verb, 10**6)
        assert run(model, ["likelihood"], protocol, work=tmp_path) == whole
        once = len(calls)
        run(model, ["likelihood"], protocol)
        assert once * 2 == len(calls) - once  # half of the batches were left


def test_what_is_kept_is_written_now_and_then(tmp_path, monkeypatch):
    model, batches = vae(), [{"image": torch.rand(4, 1, 8, 8).round()} for _ in range(30)]
    whole = zoo.evaluate(model, batches, samples=5)
    write, clock, written = likelihood.write_tensors, iter(range(1000)), []
    monkeypatch.setattr(likelihood.time, "monotonic", lambda: next(clock))  # a second a look
    monkeypatch.setattr(
        likelihood,
        "write_tensors",
        lambda tensors, path: written.append(int(tensors["batches"])) or write(tensors, path),
    )
    assert zoo.evaluate(model, batches, samples=5, kept=tmp_path / "kept") == whole
    # after KEEP_EVERY looks, one of which is for the time of the writing; and at the end
    assert written == [6, 12, 18, 24, 30, 30]


def test_finished_jobs_are_not_done_again(tmp_path, features, monkeypatch):
    model = vae()
    protocol = Protocol(samples=5, limit=110)
    jobs = SUITES["card"].jobs
    whole = run(model, jobs, protocol)
    with monkeypatch.context() as patch:
        stopping(patch, model, "decode", 2)  # reconstructions of two batches; then samples
        with pytest.raises(StoppedError):
            run(model, jobs, protocol, work=tmp_path)
    assert {p.stem for p in tmp_path.glob("*.json")} == {*jobs[: jobs.index("samples")]}
    with monkeypatch.context() as patch:
        stopping(patch, model, "posterior", 0)
        assert run(model, jobs, protocol, work=tmp_path) == whole


def test_the_command_goes_on_and_leaves_nothing_behind(
    tmp_path, cache, features, monkeypatch, capsys
):
    folder, twin = tmp_path / "vae-stars", tmp_path / "twin" / "vae-stars"
    for place in (folder, twin):
        vae().save_pretrained(place)
    words = ["--samples=5", "--limit=110", "--write"]
    assert main(["evaluate", str(twin), *words]) == 0
    assert not [*cache.iterdir()]
    with monkeypatch.context() as patch:
        decode, calls = VAE.decode, []

        def stop(self, z):
            calls.append(1)
            if len(calls) > 4:  # two batches, reconstructed and drawn
                raise KeyboardInterrupt
            return decode(self, z)

        patch.setattr(VAE, "decode", stop)
        assert main(["evaluate", str(folder), *words]) == 130
    assert not (folder / "metrics.json").exists()
    # it was stopped in the quick measurement, with the card's done
    asked = (Protocol(5, 110), quick_of(5))
    assert {*cache.iterdir()} == {work_folder(folder, p, None, "cpu") for p in asked}
    assert main(["evaluate", str(folder), *words]) == 0
    assert not [*cache.iterdir()]
    assert (folder / "metrics.json").read_text() == (twin / "metrics.json").read_text()
    assert capsys.readouterr().err == "zoo: interrupted\n"


def test_the_quick_protocol_takes_a_share_of_the_importance_samples():
    assert [quick_of(k).samples for k in (5000, 10_000, 500, 10)] == [200, 200, 20, 1]
    assert quick_of(5000) == QUICK


def test_what_is_kept_belongs_to_one_question(tmp_path):
    folder = tmp_path / "m"
    vae().save_pretrained(folder)
    asked = [
        (QUICK, None, "cpu"),
        (QUICK, None, "cuda"),
        (QUICK, "Digits", "cpu"),
        (QUICK._replace(seed=1), None, "cpu"),
    ]
    keys = [work_folder(folder, *question) for question in asked]
    assert work_folder(folder, *asked[0]) == keys[0]
    vae(hidden=(17,)).save_pretrained(folder)
    keys.append(work_folder(folder, *asked[0]))
    assert len({*keys}) == 5


# --- probes --------------------------------------------------------------------------------------


def test_probes_see_what_is_in_the_codes():
    labels = torch.arange(300) % 3
    centres = functional.one_hot(labels, 3).float()
    codes = centres * 3 + 0.3 * torch.randn(300, 3)  # ten standard deviations apart
    train, test = (codes[:200], labels[:200]), (codes[200:], labels[200:])
    found = {m.name: m for m in probed(train, test, "codes")}
    assert {name: m.value for name, m in found.items()} == {"linear_probe": 1, "knn_probe": 1}
    assert "fitted on 200 training images" in found["linear_probe"].kind
    index = torch.where(torch.arange(300) < 270, labels, 3)  # of the 100, 30 have an unseen one
    found = probed((index[:200], labels[:200]), (index[200:], labels[200:]), "codes")
    share = found[0].value  # the unseen are all given one label, that of a third
    assert share == pytest.approx(0.8, abs=0.01)
    assert found[0].standard_error == pytest.approx(math.sqrt(share * (1 - share) / 100), abs=1e-4)
    assert probed((codes[:4], labels[:4]), test, "codes") == []
    assert probed((codes[:9], torch.zeros(9)), test, "codes") == []


def test_probes_are_fitted_on_as_many_training_images(monkeypatch):
    model = tiny(PPCA, latent_dim=2)
    seen = []
    monkeypatch.setattr(probes, "probed", lambda *args: seen.append(args) or [])
    probes.probes(Job(model, data_module(model), Protocol(limit=50)))
    ((train, test, _),) = seen
    module = FakeImages(**DATA["init_args"])
    module.setup()
    for (codes, labels), split in ((train, "train"), (test, "test")):
        image = module.splits[split]["image"][:50].float() / 255
        torch.testing.assert_close(codes, model.encode(image).detach())
        assert torch.equal(labels, module.splits[split]["label"][:50])


# --- reconstructions and codes -------------------------------------------------------------------


def test_reconstructions_of_an_autoencoder_are_measured():
    model = tiny(AE, latent_dim=3, hidden=(16,), likelihood="gaussian")
    with torch.no_grad():
        model.log_scale.fill_(-0.7)
    found = {m.name: m for m in run(model, SUITES["card"].jobs, Protocol(limit=110))}
    assert found.keys() - SAMPLES == {
        *("linear_probe", "knn_probe", "code_distortion", "mean_squared_error")
    }
    x = FakeImages(**DATA["init_args"])
    x.setup()
    x = x.splits["test"]["image"][:110].double() / 255
    with torch.no_grad():
        mean = model.double().decoder(model.encoder(x))
    square = (x - mean).square().sum((1, 2, 3))
    nats = square * math.exp(1.4) / 2 + 64 * (0.5 * math.log(2 * math.pi) - 0.7)
    metric = found["code_distortion"]
    assert metric.value == pytest.approx(nats.mean().item(), rel=1e-5)
    assert metric.standard_error == pytest.approx(nats.std().item() / 110**0.5, rel=1e-3)
    assert (metric.count, metric.job) == (110, "reconstructions")
    clipped = (x - mean.clamp(0, 1)).square().mean().item()
    assert found["mean_squared_error"].value == pytest.approx(clipped, abs=1e-6)


def quantised():
    return tiny(VQVAE, BINARY, codes=5, code_dim=2, hidden=(4, 4), prior_width=8, prior_heads=2)


def test_codes_are_measured_in_bits():
    model = quantised()
    found = {m.name: m for m in run(model, ["codes"], Protocol(limit=110))}
    module = FakeImages(**BINARY["init_args"])
    module.setup()
    x = next(iter(module.loader("test", shuffle=False, rank=0, world_size=1)))["image"][:110]
    assert len(x) == 110
    with torch.no_grad():
        s = model.encode(x).flatten(1)
        logits = model.transformer(s)[:, :4].double().log_softmax(-1)
    bits = -sum(logits[:, t].gather(1, s[:, t : t + 1]) for t in range(4)) / math.log(2) / 64
    assert found["bits_per_dim"].value == pytest.approx(bits.mean().item(), abs=2e-6)
    assert found["bits_per_dim_uniform"].value == pytest.approx(4 * math.log2(5) / 64, abs=1e-6)
    perplexity = CodebookPerplexity(5)
    perplexity.update(s)
    assert found["code_perplexity"].value == pytest.approx(perplexity.compute().item(), abs=1e-4)
    assert found["codes_in_use"].value == len(s.unique()) / 5
    assert run(vae(), ["codes"], Protocol()) == []
    assert run(tiny(GMM, components=3), ["codes"], Protocol()) == []


# --- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", [frechet, pairwise])
def test_errors_of_distances_are_those_of_other_data_and_other_draws(statistic):
    torch.manual_seed(0)

    def normal(shift=0.0):
        return torch.randn(200, 3) + shift

    fixed_real, fixed_draw = normal(), normal(0.7)
    of_data = [statistic(normal(), fixed_draw) for _ in range(40)]
    of_draws = [statistic(fixed_real, normal(0.7)) for _ in range(40)]
    found = [with_errors(statistic, normal(), normal(0.7)) for _ in range(8)]
    for name in found[0]:
        for runs, place in ((of_data, 1), (of_draws, 2)):
            spread = torch.stack([run[name].double() for run in runs]).std().item()
            stated = sum(distance[name][place] for distance in found) / 8
            # spread is known to 1 in 9, stated to 1 in 12; radii of half as many are wider
            assert 0.5 < stated / spread < 2, (name, place)


def test_samples_are_compared_in_the_classifiers_features(features):
    model = tiny(PPCA, latent_dim=2)
    found = {m.name: m for m in run(model, ["samples"], Protocol(seed=5))}
    assert found.keys() == SAMPLES
    module = FakeImages(**DATA["init_args"])
    module.setup()
    torch.manual_seed(5)
    with torch.no_grad():
        real = features.encode(module.splits["test"]["image"].float() / 255).double()
        fake = features.encode(torch.cat([model.sample(100), model.sample(20)])).double()
    roots = torch.linalg.eigvals(torch.cov(real.T) @ torch.cov(fake.T)).sqrt().real.sum()
    wanted = (real.mean(0) - fake.mean(0)).square().sum()
    wanted += torch.cov(real.T).trace() + torch.cov(fake.T).trace() - 2 * roots
    metric = found["frechet_distance"]
    assert metric.value == pytest.approx(wanted.item(), rel=1e-4, abs=1e-4)
    assert metric.unit == "lenet-stars features"
    assert "120 samples" in metric.kind
    assert (metric.count, metric.seed, metric.job) == (120, 5, "samples")


@pytest.mark.parametrize(
    ("data", "likelihood", "drawn"),
    [
        (BINARY, "bernoulli", "means of p(x|z)"),
        (DATA, "bernoulli", "means of p(x|z)"),  # its draws of grey pixels would be on or off
        (DATA, "gaussian", "samples"),
    ],
)
def test_models_of_binary_pixels_are_drawn_by_their_means(features, data, likelihood, drawn):
    model = tiny(VAE, data, latent_dim=3, hidden=(16,), likelihood=likelihood)
    (kind,) = {m.kind.partition("features, ")[2] for m in run(model, ["samples"], Protocol())}
    assert kind == f"120 {drawn}"


SETS = [getattr(datamodules, name) for name in datamodules.__all__]


@pytest.mark.parametrize("dataset", [d for d in SETS if d.feature_network])
def test_the_networks_that_samples_are_compared_in_ship(dataset):
    network = feature_network(dataset())
    assert isinstance(network, Classifier)
    assert network.loaded_from == dataset.feature_network
    assert network.data["class_path"] == dataset.__name__


def test_a_job_that_does_not_apply_gives_nothing(features, monkeypatch):
    assert run(vae(), ["samples"], Protocol(limit=99)) == []  # too few to compare
    assert run(features, ["samples", "gap"], Protocol()) == []
    assert {m.name for m in run(features, ["likelihood"], Protocol())} == {"accuracy"}
    monkeypatch.setattr(FakeImages, "feature_network", "lenet-none")
    assert run(vae(), ["samples"], Protocol()) == []
    assert run(tiny(GMM, components=3), ["gap"], Protocol()) == []


def test_the_gap_is_split(monkeypatch):
    monkeypatch.setattr(gap, "ANNEALED", 10)
    model = vae(hidden=(4,))
    sharp = gap.inference_gap
    monkeypatch.setattr(gap, "inference_gap", lambda m, x, k: sharp(m, x, k, 20, 4, 20))
    found = {m.name: m for m in run(model, ["gap"], Protocol(samples=300))}
    assert found.keys() == {"nll_annealed", "approximation_gap", "amortisation_gap"}
    assert {m.count for m in found.values()} == {10}
    plain = {m.name: m for m in run(model, ["likelihood"], Protocol(300, 10))}
    whole = found["approximation_gap"].value + found["amortisation_gap"].value
    # both sides state how sure they are of the same gap
    error = sum(m.monte_carlo_error for m in found.values()) + plain["elbo"].monte_carlo_error
    assert -plain["elbo"].value - found["nll_annealed"].value == pytest.approx(whole, abs=4 * error)


def test_the_data_are_read_once_for_all_jobs(monkeypatch):
    load, calls = FakeImages.load, []
    monkeypatch.setattr(FakeImages, "load", lambda self: calls.append(1) or load(self))
    assert {m.job for m in run(vae(), SUITES["card"].jobs, Protocol(samples=5, limit=20))} == {
        *(None, "probes", "reconstructions")
    }
    assert len(calls) == 1


def test_unknown_jobs_and_suites(capsys):
    with pytest.raises(ValueError, match="no job 'probe'; did you mean probes"):
        run(vae(), ["probe"], Protocol())
    assert main(["evaluate", "vae-mnist", "--suite", "fast"]) == 2
    assert "there is no --suite 'fast'" in capsys.readouterr().err


# --- verify --------------------------------------------------------------------------------------


@pytest.fixture
def stated(tmp_path, features):
    folder = tmp_path / "vae-stars"
    model = vae()
    model.save_pretrained(folder)
    write_metrics(folder, run(model, SUITES["card"].jobs, Protocol(samples=20)))
    return folder


def test_verify_measures_every_metric_by_its_job(stated):
    checks = {check.what: check for check in zoo.verify(str(stated))}
    assert all(check.passed for check in checks.values()), checks
    assert {"nll", "linear_probe", "knn_probe", *SAMPLES} < checks.keys()
    for name in ("nll", "linear_probe", *SAMPLES):
        assert checks[name].measured == checks[name].stated


def test_verify_measures_codes(tmp_path):
    folder = tmp_path / "vqvae-stars"
    model = quantised()
    model.save_pretrained(folder)
    write_metrics(folder, run(model, ["reconstructions", "codes"], Protocol()))
    checks = {check.what: check for check in zoo.verify(str(folder))}
    assert all(check.passed for check in checks.values()), checks
    measured = {"code_distortion", "mean_squared_error", "bits_per_dim", "bits_per_dim_uniform"}
    assert measured | {"codes_in_use", "code_perplexity"} < checks.keys()
    content = json.loads((folder / "metrics.json").read_text())
    for metric in content["metrics"]:
        metric["value"] *= 1.03
    write_text(folder / "metrics.json", json.dumps(content))
    failed = {check.what for check in zoo.verify(str(folder)) if not check.passed}
    assert failed == measured | {"codes_in_use", "code_perplexity"}


@pytest.mark.parametrize(
    ("name", "change", "failed"),
    [
        ("frechet_distance", lambda m: m.update(value=1.5 * m["value"] + 1), "frechet_distance"),
        ("linear_probe", lambda m: m.update(value=m["value"] + 0.01), "linear_probe"),
        ("coverage", lambda m: m.update(standard_error=9.0), "coverage"),
        ("recall", lambda m: m.update(job="rumour"), "metrics"),
        ("recall", lambda m: m.pop("job"), "recall"),
    ],
)
def test_verify_refuses_what_no_job_gives(stated, name, change, failed):
    path = stated / "metrics.json"
    content = json.loads(path.read_text())
    change(next(m for m in content["metrics"] if m["name"] == name))
    write_text(path, json.dumps(content))
    assert [check.what for check in zoo.verify(str(stated)) if not check.passed] == [failed]


# --- disentanglement -----------------------------------------------------------------------------


def sprite_model():
    torch.manual_seed(0)
    model = VAE(x_shape=(1, 64, 64), latent_dim=3, hidden=()).eval()
    with torch.no_grad():  # where codes hardly vary all are pruned
        model.encoder[1][0].weight.mul_(10)
    model.data = {"class_path": "Sprites", "init_args": {}}
    return model


def test_codes_of_sprites_are_scored_as_the_metrics_do():
    model, protocol = sprite_model(), Protocol(limit=300)
    found = {m.name: m for m in run(model, ["disentanglement"], protocol)}
    data, generator = Sprites(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        factors = data.sample_factors(300, generator)
        codes = model.encode(data.render(factors))
        groups, fixed = data.sample_groups(300, 64, generator)
        grouped = model.encode(data.render(groups.flatten(0, 1))).reshape(300, 64, -1)
    trees = DCI()
    trees.update(codes, factors)
    expected = {f"dci_{name}": value for name, value in trees.compute().items()}
    for name, metric in {"mig": MIG(), "sap": SAP(), "modularity": Modularity()}.items():
        metric.update(codes, factors)
        expected[name] = metric.compute()
    votes = FactorVAEScore(latent_dim=3)
    votes.update(grouped, fixed)
    expected["factor_vae_score"] = votes.compute()
    assert {name: m.value for name, m in found.items()} == {
        name: pytest.approx(float(value), abs=1e-4) for name, value in expected.items()
    }
    assert found["mig"].value > 0
    assert found["mig"].monte_carlo_error > 0
    assert all(m.job == "disentanglement" and m.count == 300 for m in found.values())


def test_only_pictures_of_known_factors_are_scored():
    assert run(vae(), ["disentanglement"], Protocol(limit=60)) == []
