"""What features are good for after pretraining: probes, fine-tuning, scores, voting."""
