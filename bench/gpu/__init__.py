"""What only a device can show, one file a check; ``python -m vtp.bench.gpu`` runs them all."""
