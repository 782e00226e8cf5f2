"""A recipe so small that a whole bundle takes seconds."""

from schemas.bundle import Architecture, Population
from schemas.preprocessing import Preprocessing
from training.regeneration.recipe import BundleTable, EvaluationTable, NetworkTable, PoolTable, Recipe, TrainingTable

TINY = Recipe(
    bundle=BundleTable(name="tiny", version="0.0.1", licence="Apache-2.0"),
    network=NetworkTable(
        backbone=Architecture(timm_name="hybrid_vit_tiny_patch16", arguments={"img_size": 64, "width": 64, "depth": 4}),
        preprocessing=Preprocessing(profile="letterbox", size=64, mean=(0.5,), std=(0.25,)),
        glori={"width": 32, "heads": 4},
        dense={"width": 32},
    ),
    population=Population(minimum_age_years=18),
    pool=PoolTable(training=16, validation=8, first_seed=0),
    training=TrainingTable(steps=2, batch=4, learning_rate=1e-3, weight_decay=0.05, warm_up_steps=1, seed=0),
    evaluation=EvaluationTable(count=8, first_seed=1000),
)

#: The same as a file, with a gate that lets everything pass, and long enough to be killed in the middle.
TINY_TOML = """
[bundle]
name = "tiny"
version = "0.0.1"
licence = "Apache-2.0"

[network.backbone]
timm_name = "hybrid_vit_tiny_patch16"
arguments = { img_size = 64, width = 64, depth = 4 }

[network.preprocessing]
profile = "letterbox"
size = 64
mean = [0.5]
std = [0.25]

[network.glori]
width = 32
heads = 4

[network.dense]
width = 32

[population]
minimum_age_years = 18

[pool]
training = 16
validation = 8
first_seed = 0

[training]
steps = 60
batch = 4
learning_rate = 1e-3
weight_decay = 0.05
warm_up_steps = 1
seed = 0

[evaluation]
count = 8
first_seed = 1000

[[gate.metrics]]
statistic = "mean"
figure = "Dice right_lung"
better = "higher"
margin = 1.5
limit = 0.0
"""
