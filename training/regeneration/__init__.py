"""From a recipe to a bundle, stage by stage, with a report and a gate."""
