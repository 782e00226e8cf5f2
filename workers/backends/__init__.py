"""What can compute a bundle's network: torch, OpenVINO, ONNX Runtime. Imported by engine processes and by tuning."""
