"""From records to batches: draws, transforms, worker processes."""
