"""Pictures of how a model sees, each drawn from arrays alone; `segcli.inspection.views` collects the arrays."""
