"""mgcv's smooths: bases, their penalties and constraints, and what a formula makes of them.

`basis` says what a basis is; `cubic`, `pspline`, `thinplate` (`radial`, `rsample`), `random` and `tensor` are such.
`options` reads a term, `assemble` makes smooths of it (`constraint`, `reparametrise`), `side` settles nested terms, and
`part` is all smooths of a formula together.
"""
