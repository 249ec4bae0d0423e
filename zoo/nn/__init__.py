"""Networks of the families, built from plain constructor arguments."""

from zoo.nn.conv import ConvDecoder as ConvDecoder
from zoo.nn.conv import ConvEncoder as ConvEncoder
from zoo.nn.mlp import mlp as mlp
