"""A recipe so small that a whole bundle takes seconds; its gate lets everything pass."""

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
intensity = "stretch"
mean = [0.5]
std = [0.25]

[network]
detail_size = 576
glori = { width = 32, heads = 4 }
dense = { width = 32 }
second_look = { widths = [8, 8, 8, 8, 8] }

[population]
minimum_age_years = 18

[phantoms]
training = 48
validation = 8
first_seed = 0

[first_look]
steps = 20
batch = 4
learning_rate = 1e-3
checkpoint_every = 1

[second_look]
steps = 2
batch = 2
learning_rate = 1e-3

[evaluation]
count = 4
first_seed = 1000

[[gate.metrics]]
statistic = "mean"
figure = "Dice right_lung"
better = "higher"
margin = 1.5
limit = 0.0
"""
