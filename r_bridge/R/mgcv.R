# The mean of ComBat-GAM by mgcv: one gam() a feature, on one set-up of the smooths.
#
# data: covariates, factors as such; formula: of the covariates, without response, as text;
# batch: factor; its contrasts enter as one matrix term, so that smooths and the other factors are coded as with an
# intercept; Y: rows x features, NA where not observed.

tight <- function() {
  # R's default stops at a gradient of 1e-6 of the score, which is 1e-4 of a residual sd in places.
  mgcv::gam.control(epsilon = 1e-12, newton = list(
    conv.tol = 1e-12, maxNstep = 5, maxSstep = 2, maxHalf = 50, use.svd = FALSE
  ))
}

mgcv_setup <- function(data, formula, batch, Y, method, discrete, knots = NULL) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  data$.y <- ifelse(is.na(Y[, 1]), mean(Y[, 1], na.rm = TRUE), Y[, 1])
  data$.batch <- stats::model.matrix(~batch)[, -1, drop = FALSE]
  text <- paste(".y ~", if (ncol(data$.batch)) ".batch +", sub("^\\s*~", "", formula))
  arguments <- list(stats::as.formula(text), data = data, method = method, fit = FALSE, knots = knots)
  if (discrete) do.call(mgcv::bam, c(arguments, discrete = TRUE)) else
    do.call(mgcv::gam, c(arguments, list(control = tight())))
}

mgcv_mean <- function(data, formula, batch, Y, method = "REML", discrete = FALSE) {
  setup <- mgcv_setup(data, formula, batch, Y, method, discrete)
  fits <- lapply(seq_len(ncol(Y)), function(k) {
    if (discrete || anyNA(Y[, k])) {
      # Missing cells take their rows out; the basis is still that of all rows.
      fit_rows(setup, Y[, k], method, discrete)
    } else {
      one <- setup
      one$y <- one$mf$.y <- Y[, k]
      mgcv::gam(G = one, method = method, control = tight())
    }
  })
  first <- fits[[1]]
  smooths <- first$smooth
  columns <- lapply(smooths, function(s) s$first.para:s$last.para)
  labels <- sapply(smooths, function(s) s$label)
  coefficients <- sapply(fits, coef)
  edf <- vapply(fits, function(f) vapply(columns, function(i) sum(f$edf[i]), 0), numeric(length(smooths)))
  sp <- vapply(fits, function(f) as.numeric(f$sp), numeric(length(first$sp)))
  X <- predict_columns(first, setup, discrete)
  colnames(coefficients) <- colnames(Y)
  list(
    X = X, names = names(coef(first)), coefficients = coefficients,
    n_parametric = if (length(smooths)) smooths[[1]]$first.para - 1L else length(coef(first)),
    n_batch = nlevels(batch) - 1L,
    first = vapply(columns, min, 0), last = vapply(columns, max, 0), labels = labels,
    sp = matrix(sp, ncol = ncol(Y), dimnames = list(names(first$sp), colnames(Y))),
    edf = matrix(edf, length(smooths), ncol(Y), dimnames = list(labels, colnames(Y))),
    score = matrix(vapply(fits, function(f) as.numeric(f$gcv.ubre), 0), 1, dimnames = list(NULL, colnames(Y))),
    converged = vapply(fits, function(f) isTRUE(f$converged), NA),
    smooths = serialize(smooths, NULL)
  )
}

fit_rows <- function(setup, y, method, discrete) {
  rows <- which(!is.na(y))
  one <- setup
  if (discrete) {
    one$y <- one$mf$.y <- y
    return(mgcv::bam(G = one, method = method, discrete = TRUE))
  }
  one$y <- y[rows]
  one$mf <- one$mf[rows, , drop = FALSE]
  one$mf$.y <- y[rows]
  one$X <- one$X[rows, , drop = FALSE]
  one$w <- one$w[rows]
  one$offset <- one$offset[rows]
  one$n <- length(rows)
  mgcv::gam(G = one, method = method, control = tight())
}

predict_columns <- function(fit, setup, discrete) {
  if (discrete) stats::predict(fit, newdata = setup$mf, type = "lpmatrix") else setup$X
}

# Columns of R's own smooths on other rows, from what `mgcv_mean` returned.
mgcv_columns <- function(smooths, data) {
  lapply(unserialize(smooths), function(smooth) {
    X <- mgcv::PredictMat(smooth, data)
    matrix(X, nrow(data))
  })
}
