"""The least-squares engine: one design, many responses.

`sufficient` reduces rows to per-batch statistics that merge exactly; `solve` turns those statistics into coefficients
for all features at once.
"""
