"""Ways of pretraining compared by the same probe: a plan, its arms, their table and chart."""
