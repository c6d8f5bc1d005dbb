"""The training loop: steps, updates, objectives, events, and the device-side loop."""
