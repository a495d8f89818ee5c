"""Training one head: loop, state, optimiser, sampler, loaders, resume, recorder, distributed."""
