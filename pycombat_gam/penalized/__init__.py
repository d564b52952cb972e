r"""The least-squares engine: one design, many responses, quadratic penalties.

A harmonization fits the same formula to every voxel. A GAM package fits them one by one: it builds the basis, factors
the design, searches the smoothing parameters, a hundred thousand times. But the design, n rows and p columns, is the
same each time, and so are its penalties S_1 … S_m; only the response changes. Whatever does not depend on the response
is done once here, and what does depend on it is small: r numbers, where r is the number of penalised coefficients
(8 for a cubic spline of ten knots).

**Statistics** (`sufficient`, `solve`). Per batch the rows are centred, which projects the batch intercepts out, and a
QR of the centred design turns the responses into Z = Q'Y (p×V) and a residual sum of squares. Cost O(npV), one pass
over Y in blocks that fit the cache; nothing later sees a row. Chunks and sites merge by a QR of stacked factors.
Residual squares are formed as such where a difference would lose digits, never from normal equations.

**Coordinates** (`whiten`). The null spaces of the penalties join the unpenalised columns and are projected out, by QR,
once. The rest of each smooth is whitened by the sum of its penalties. Two penalties of one smooth then commute, since
they add up to the identity, and one rotation makes them diagonal: so are those of tensor products of two variables, of
factor-smooth interactions, and of a smooth with a penalised null space. What is left of response y is z = Q'y, r
numbers, and

    minimise  ‖z − Kv‖² + Σ_j λ_j v'A_jv + rss₀,     H = K'K + Σ_j λ_jA_j.

A λ of 10¹⁵ only adds to the diagonal of H; scaled to a unit diagonal, its Cholesky factor keeps its digits (van der
Sluis 1969). A singular K, as from dummies of a random effect beside an intercept, does no harm.

**Criteria** (`criterion`, `logdet`). REML, ML and GCV with mgcv's constants (Wood 2011), so that scores compare with
`gcv.ubre` of an R fit. The penalised deviance is always a sum of squares. log|Σλ_jA_j| is a log-sum-exp of joint
eigenvalues; for three or more penalties that overlap, a QR with sorted rows and column pivoting (Cox & Higham 1998)
that stands ratios of 10¹⁵. Gradient and Hessian are analytic. Where the penalties are diagonal,
tr(H⁻¹A_jH⁻¹A_k) = a_j'(H⁻¹∘H⁻¹)a_k: one inverse, O(r³), and m² products, O(m r²), for each response and step.

**One smoothing parameter** (`single`). Demmler and Reinsch's (1975) coordinates diagonalise K'K and the penalty
together; with t_k = λ/(d_k² + λ) the criterion is a sum over r scalars. A grid over the whole axis costs a matrix
product, (grid × r)(r × V); then Newton's method for all responses at once, inside brackets that bisection shrinks where
Newton would leave them. About ten passes over an r × V array: 100,000 curves in a second. The grid is the safeguard:
REML may have two minima, and a search from one start may end in the higher. λ = ∞ (a straight line) is a legitimate
answer, found on the grid's last point.

**Several** (`several`). On a grid of λ's all responses share H, so each point costs one Cholesky factor and one product
with K'z: surveying the criterion for everyone is cheap, and Newton starts at the best points. The Hessian's eigenvalues
are made positive, steps are bounded and halved until the score falls; a response that has arrived leaves the batch. A
λ that runs to infinity is moved to its bound as soon as the slope says so, instead of being followed there.

The rule that both obey: the score is never worse than mgcv's by more than 10⁻⁶. Where scores agree, fits do too.

References
----------
Cox & Higham (1998), BIT 38:34–50. Demmler & Reinsch (1975), Numer. Math. 24:375–382. van der Sluis (1969), Numer. Math.
14:14–23. Wood (2003), JRSS-B 65:95–114. Wood (2011), JRSS-B 73:3–36. Wood (2013), Biometrika 100:221–228. Wood (2017),
Generalized Additive Models: An Introduction with R, 2nd ed.
"""
