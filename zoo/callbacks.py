"""Callbacks of recipes other than Lightning's own, under their names in recipes."""

from zoo.training.monitors import LogActiveUnits as LogActiveUnits
from zoo.training.monitors import SampleGrid as SampleGrid
from zoo.training.push import PushToHub as PushToHub
from zoo.training.saving import SaveLast as SaveLast
from zoo.training.seeding import SeedEpoch as SeedEpoch
