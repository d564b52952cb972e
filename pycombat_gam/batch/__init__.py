"""The batch model, equation by equation.

`levels` names the sites, `standardize` brings features to one scale, `location_scale` estimates γ̂ and δ̂, `prior`
shrinks them to γ* and δ*, `adjust` applies them.
"""
