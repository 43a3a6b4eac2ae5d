"""Pictures of how a model sees, each drawn from arrays alone; `segcli.engine.views` collects the arrays."""
