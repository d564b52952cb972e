# sva's ComBat (Johnson, Li and Rabinovic, 2007): features are rows.

package <- "sva"

harmonize <- function(Y, covariates, prior) {
  sva::ComBat(Y, covariates$site, model.matrix(~ age + sex, covariates), par.prior = prior == "parametric")
}
