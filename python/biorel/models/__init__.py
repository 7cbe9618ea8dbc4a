"""Encoders and fine-tuned models, the devices that compute them, and the hub."""
