"""What pre-trained backbones are worth with few labels and many: probes, fine-tuning, comparison of recipes."""
