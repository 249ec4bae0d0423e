import itertools
import math

import pytest
import torch
from torch.nn.functional import avg_pool2d

from zoo.datamodules.captions.scenes import (
    BACKGROUNDS,
    COLOURS,
    FACTORS,
    all_factors,
    captions,
    classify,
    draw,
    parse,
    scenes,
)

LEVELS = range(1, 6)


def row(*factors):
    return torch.tensor(factors)


def test_levels_have_the_combinations_of_their_factors():
    assert list(FACTORS) == ["shape", "size", "colour", "position", "background"]
    sizes = [len(values) for values in FACTORS.values()]
    for level in LEVELS:
        found = all_factors(level).tolist()
        assert found == [list(c) for c in itertools.product(*map(range, sizes[:level]))]
    assert len(found) == 3 * 2 * 5 * 4 * 2


@pytest.mark.parametrize(
    ("factors", "caption"),
    [
        (row(2), "heart"),
        (row(1, 0), "small ellipse"),
        (row(0, 1, 2), "large blue square"),
        (row(2, 1, 3, 0), "large yellow heart at the top left"),
        (row(2, 1, 3, 0, 0), "large yellow heart at the top left on dark"),
        (row(0, 0, 4, 3, 1), "small pink square at the bottom right on light"),
    ],
)
def test_canonical_captions(factors, caption):
    assert captions(factors)[0] == caption
    assert torch.equal(parse(caption), factors)


def test_paraphrases():
    assert captions(row(1)) == [
        "ellipse",
        "an oval",
        "there is an ellipse",
        "we see an oval",
        "a picture of an ellipse",
    ]
    assert captions(row(0, 1, 0, 2, 1)) == [
        "large red square at the bottom left on light",
        "a big red box in the lower left corner on a light background",
        "there is a large red square at the bottom left on light",
        "on a light background, we see a big red box in the bottom left corner",
        "a picture of a large red square in the lower left corner on a light background",
    ]


def test_all_captions_are_different_and_say_their_factors():
    said = {}
    for level in LEVELS:
        for factors in all_factors(level):
            sentences = captions(factors)
            assert len(sentences) == 5
            for sentence in sentences:
                assert torch.equal(parse(sentence), factors)
                said[sentence] = factors
    assert len(said) == 5 * (3 + 6 + 30 + 120 + 240)


def test_the_whole_language_can_be_read():
    # every sentence that the rules at the head of the module make of one scene
    grounds = ["on light", "on a light", "on light background", "on a light background"]
    openings = ["", "there is", "we see", "a picture of"]
    things = [
        f"{a} {size} pink {shape}"
        for a in ("", "a", "an")
        for size in ("small", "little")
        for shape in ("ellipse", "oval")
    ]
    places = [
        f"{at} the {up} right {end}"
        for at in ("at", "in")
        for up in ("top", "upper")
        for end in ("", "corner")
    ]
    expected = row(1, 0, 4, 1, 1)
    for parts in itertools.product(grounds[:2], openings, things, places[::3]):
        assert torch.equal(parse(" ".join(parts)), expected)
    for parts in itertools.product(openings[::3], things[::5], places, grounds):
        assert torch.equal(parse(" ".join(parts)), expected)
    assert torch.equal(
        parse("  On a light background,  a Small pink OVAL at the top right."), expected
    )


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("large purple heart", "'purple' stands where there should be a colour or a shape"),
        ("hart", "'hart' stands where .* a size or a colour or a shape; did you mean 'heart'"),
        ("big red oval at the topp left", "'topp' stands where .* did you mean 'top'"),
        ("big red oval at the top rigth", "'rigth' stands where .* did you mean 'right'"),
        ("big red oval at the top left on red", "'red' stands where .* dark or light"),
        ("small heart heart", "'heart' stands where there should be nothing more"),
        ("red large heart", "'large' stands where there should be a shape"),
        ("on dark there is a heart on light", "'on' stands where there should be nothing more"),
        ("large red heart at top left", "'at' stands where there should be nothing more"),
        ("large red", "ends where there should be a shape"),
        ("", "ends where there should be a size or a colour or a shape"),
        ("large red heart at the", "ends where there should be top or bottom"),
        ("large red heart at the top", "ends where there should be left or right"),
        ("large red heart at the top left on a", "ends where there should be dark or light"),
        ("red heart", "says the colour, but not the size"),
        ("large heart at the top left", "says the position, but not the colour"),
        ("heart on dark", "says the background, but not the size"),
        ("small red heart on dark", "says the background, but not the position"),
        ("heart; small", "'heart;' stands where"),
    ],
)
def test_other_captions_are_refused_by_the_word(caption, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(caption)
    assert repr(caption) in str(caught.value)


def ink(image):
    """Where pictures are not of the colour of their upper left pixel, (B, 64, 64)."""
    return (image != image[:, :, :1, :1]).any(1)


def test_pictures_have_their_factors():
    factors = all_factors(5)
    image = draw(factors)
    assert image.dtype == torch.uint8
    assert image.shape == (240, 3, 64, 64)
    x = torch.where(factors[:, 3] % 2 == 0, 16, 48)
    y = torch.where(factors[:, 3] < 2, 16, 48)
    middle = image[torch.arange(240), :, y, x]
    assert torch.equal(middle, torch.tensor(COLOURS, dtype=torch.uint8)[factors[:, 2]])
    corner = torch.tensor(BACKGROUNDS, dtype=torch.uint8)[factors[:, 4]]
    for row_, column in itertools.product((0, -1), (0, -1)):
        assert torch.equal(image[:, :, row_, column], corner)
    assert len(image.flatten(1).unique(dim=0)) == 240
    # the circle around a shape of radius 7 or 13 has 0.5 to 0.66 of its area within the shape; the
    # pixels on the outline, at most 2 pi radius of them, all count here
    radius = torch.where(factors[:, 1] == 0, 7.0, 13.0)
    area = ink(image).sum((1, 2))
    assert (area >= 0.5 * math.pi * radius**2).all()
    assert (area <= 0.66 * math.pi * radius**2 + 2 * math.pi * radius).all()
    light = torch.tensor(BACKGROUNDS).sum(1)
    assert light[1] > 5 * light[0]


def test_low_levels_fix_what_they_leave_out():
    for shape in range(3):
        image = draw(row(shape)[None])
        assert torch.equal(image, draw(row(shape, 1)[None]))
        assert image[0, :, 32, 32].tolist() == [255, 255, 255]
        assert image[0, :, 0, 0].tolist() == list(BACKGROUNDS[0])
    assert torch.equal(draw(row(2, 0, 1, 2)[None]), draw(row(2, 0, 1, 2, 0)[None]))


@pytest.mark.parametrize("play", list(itertools.product((-1.0, 1.0), repeat=3)))
def test_play_leaves_the_shape_within_its_quarter(play):
    factors = all_factors(5)
    image = draw(factors, torch.tensor([play]).expand(240, 3))
    where = ink(image)
    where[:, 32:, :32] &= (factors[:, 3] != 2)[:, None, None]
    where[:, 32:, 32:] &= (factors[:, 3] != 3)[:, None, None]
    where[:, :32, :32] &= (factors[:, 3] != 0)[:, None, None]
    where[:, :32, 32:] &= (factors[:, 3] != 1)[:, None, None]
    assert not where.any()
    assert torch.equal(classify(image, 5), factors)


def test_play_moves_and_stretches_as_it_says():
    def weight(play):
        """The sum of the ink of a white square, and its centroid."""
        share = (draw(row(0, 1)[None], torch.tensor([play]))[0, 0].double() - 20) / 235
        pixel = torch.arange(64, dtype=torch.float64) + 0.5
        return torch.stack([share.sum(), share.sum(0) @ pixel, share.sum(1) @ pixel])

    for play in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.3, 0.4, 1.0)):
        area, x, y = weight(play)
        # grey values are rounded, and the renderer is off by 0.003, on some 80 pixels
        assert area == pytest.approx(2 * (13 * (1 + 0.1 * play[2])) ** 2, abs=0.5)
        assert x / area == pytest.approx(32 + 1.5 * play[0], abs=0.02)
        assert y / area == pytest.approx(32 + 1.5 * play[1], abs=0.02)


@pytest.mark.parametrize("level", LEVELS)
def test_scenes(level):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    image, sentences, factors = scenes(250, level, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert image.shape == (250, 3, 64, 64)
    assert image.dtype == torch.uint8
    assert factors.shape == (250, level)
    assert [s[0] for s in sentences[:50]] == [captions(f)[0] for f in factors[:50]]
    assert all(torch.equal(parse(s[i % 5]), factors[i]) for i, s in enumerate(sentences))
    assert torch.equal(classify(image, level), factors)
    for column, values in zip(factors.unbind(1), FACTORS.values(), strict=False):
        p = 1 / len(values)
        count = column.bincount(minlength=len(values))
        assert (count - 250 * p).abs().max() < 4.5 * math.sqrt(250 * p * (1 - p))
    again = scenes(250, level, seed=1)
    assert torch.equal(again[0], image)
    assert again[1] == sentences
    assert not torch.equal(scenes(250, level, seed=2)[2], factors)


def test_scenes_with_the_same_factors_differ():
    image, _, factors = scenes(100, 1, seed=0)
    for shape in range(3):
        same = image[factors[:, 0] == shape].flatten(1)
        assert len(same) > 10
        assert len(same.unique(dim=0)) == len(same)


def test_captions_of_a_scene_can_be_changed():
    _, sentences, _ = scenes(20, 1, seed=0)
    before = captions(row(0))
    for own in sentences:
        own.clear()
    assert captions(row(0)) == before


def test_pictures_are_the_same_one_by_one():
    image, _, factors = scenes(40, 5, seed=0)
    play = 2 * torch.rand(40, 3) - 1
    whole = draw(factors, play)
    single = [draw(f[None], p[None]) for f, p in zip(factors, play, strict=True)]
    assert torch.equal(whole, torch.cat(single))
    read = [classify(x[None], 5) for x in image]
    assert torch.equal(classify(image, 5), torch.cat(read))


def test_no_pictures():
    assert draw(torch.empty(0, 5, dtype=torch.int64)).shape == (0, 3, 64, 64)
    assert classify(torch.empty(0, 3, 64, 64), 5).shape == (0, 5)


def test_reader_takes_floats_and_stands_noise_and_blur():
    image, _, factors = scenes(120, 5, seed=3)
    pixels = image / 255
    assert torch.equal(classify(pixels, 5), factors)
    noisy = (pixels + 0.06 * torch.randn(pixels.shape)).clamp(0, 1)
    assert torch.equal(classify(noisy, 5), factors)
    blurred = avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
    assert torch.equal(classify(blurred, 5), factors)


def test_reader_says_where_there_is_no_scene():
    def unread(image):
        return bool((classify(image, 5) == -1).all())

    assert unread(torch.zeros(2, 3, 64, 64))
    assert unread(torch.ones(2, 3, 64, 64))
    assert unread(torch.rand(8, 3, 64, 64))
    dot = torch.zeros(1, 3, 64, 64)
    dot[:, 0, 20:23, 20:23] = 1
    assert unread(dot)
    bars = torch.zeros(1, 3, 64, 64)
    bars[:, :, 8:12, 4:60] = bars[:, :, 40:44, 4:60] = 0.9
    assert unread(bars)
    image, _, factors = scenes(200, 5, seed=5)
    turned = image.flip(2)  # hearts stand on their heads
    read = classify(turned, 5)
    hearts = factors[:, 0] == 2
    assert (read[hearts, 0] != 2).all()
    mirrored = factors[~hearts].clone()
    mirrored[:, 3] = (mirrored[:, 3] + 2) % 4
    assert torch.equal(read[~hearts], mirrored)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scenes(10, 0, 0), "level is 0, but must be 1 to 5"),
        (lambda: scenes(10, 6, 0), "level is 6, but must be 1 to 5"),
        (lambda: scenes(-1, 5, 0), "n is -1, but must be at least 1"),
        (lambda: scenes(0, 5, 0), "n is 0, but must be at least 1"),
        (lambda: scenes(1, 5, -1), "seed is -1, but must be at least 0"),
        (lambda: all_factors(7), "level is 7"),
        (lambda: draw(row(3)[None]), "shape is 3, but must be 0 to 2"),
        (lambda: draw(row(0, 0, 5, 0)[None]), "colour is 5, but must be 0 to 4"),
        (lambda: draw(row(0, 0, 0, 0, 0, 0)[None]), "level is 6"),
        (lambda: draw(row(0, 0)), r"factors are int64 \(2,\), but must be int64 \(B, 2\)"),
        (lambda: draw(row(0)[None], torch.tensor([[0, 0, 1.1]])), r"play must be within \[-1, 1\]"),
        (lambda: draw(row(0)[None], torch.full((1, 3), math.nan)), "play must be within"),
        (lambda: captions(row(0, -1)), "size is -1, but must be 0 to 1"),
        (lambda: classify(torch.zeros(1, 3, 32, 32), 5), r"image is \(1, 3, 32, 32\)"),
        (lambda: classify(torch.zeros(1, 1, 64, 64), 5), r"image is \(1, 1, 64, 64\)"),
        (lambda: classify(torch.zeros(1, 3, 64, 64), 0), "level is 0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
