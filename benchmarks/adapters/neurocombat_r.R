# R's neuroCombat (Fortin et al., 2018): features are rows. It is not on CRAN, so it is often not installed.

package <- "neuroCombat"

harmonize <- function(Y, covariates, prior) {
  neuroCombat::neuroCombat(Y, covariates$site, model.matrix(~ age + sex, covariates),
                           parametric = prior == "parametric", verbose = FALSE)$dat.combat
}
