# mgcv::gam by REML, feature by feature, the site a factor of the formula: the fitted values.

package <- "mgcv"

harmonize <- function(Y, covariates, formula) {
  covariates$site <- factor(covariates$site)
  wanted <- stats::as.formula(paste("y", formula, "+ site"), env = asNamespace("mgcv"))
  # measure.R writes features x subjects column after column: the same bytes as subjects x features row after row.
  t(apply(Y, 1, function(y) {
    covariates$y <- y
    as.numeric(stats::fitted(mgcv::gam(wanted, data = covariates, method = "REML")))
  }))
}
