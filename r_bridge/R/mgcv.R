# The mean of ComBat-GAM by mgcv: one gam() a feature, on one set-up of the smooths.
#
# data: covariates, factors as such; formula: of the covariates, without response, as text;
# batch: factor; its contrasts enter as one matrix term, so that smooths and the other factors are coded as with an
# intercept; Y: rows x features, NA where not observed; ticking: write a form feed after each feature;
# sizes: columns of the parametric terms, to test all terms (tests.R).

tight <- function() {
  # R's default stops at a gradient of 1e-6 of the score, which is 1e-4 of a residual sd in places.
  mgcv::gam.control(epsilon = 1e-12, mgcv.tol = 1e-14, newton = list(
    conv.tol = 1e-12, maxNstep = 5, maxSstep = 2, maxHalf = 50, use.svd = FALSE
  ))
}

mgcv_model <- function(data, formula, batch) {
  data$.y <- 0
  data$.batch <- stats::model.matrix(~batch)[, -1, drop = FALSE]
  text <- paste(".y ~", if (ncol(data$.batch)) ".batch +", sub("^\\s*~", "", formula))
  list(formula = stats::as.formula(text), data = data)
}

mgcv_setup <- function(model, method) {
  model$data$.y <- stats::rnorm(nrow(model$data))
  mgcv::gam(model$formula, data = model$data, method = method, control = tight(), fit = FALSE)
}

mgcv_mean <- function(data, formula, batch, Y, method = "REML", discrete = FALSE, ticking = FALSE, sizes = NULL) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  model <- mgcv_model(data, formula, batch)
  setup <- if (!discrete) mgcv_setup(model, method)
  fits <- lapply(seq_len(ncol(Y)), function(k) {
    model$data$.y <- Y[, k]
    fit <- if (discrete) {
      mgcv::bam(model$formula, data = model$data, method = method, discrete = TRUE)
    } else {
      fit_rows(setup, Y[, k], method)
    }
    if (ticking) cat("\f")
    fit
  })
  first <- fits[[1]]
  smooths <- first$smooth
  columns <- lapply(smooths, function(s) s$first.para:s$last.para)
  labels <- vapply(smooths, function(s) s$label, "")
  coefficients <- vapply(fits, stats::coef, numeric(length(stats::coef(first))))
  edf <- vapply(fits, function(f) vapply(columns, function(i) sum(f$edf[i]), 0), numeric(length(smooths)))
  sp <- vapply(fits, function(f) as.numeric(f$sp), numeric(length(first$sp)))
  list(
    X = if (discrete) stats::predict(first, newdata = model$data, type = "lpmatrix") else setup$X,
    offset = as.numeric(if (discrete) stats::model.offset(first$model) else setup$offset),
    names = names(stats::coef(first)),
    coefficients = matrix(coefficients, ncol = ncol(Y)),
    n_parametric = length(stats::coef(first)) - sum(lengths(columns)),
    sizes = lengths(columns), labels = labels,
    sp = matrix(sp, ncol = ncol(Y)), sp_names = names(first$sp), edf = matrix(edf, ncol = ncol(Y)),
    score = vapply(fits, function(f) as.numeric(f$gcv.ubre), 0),
    converged = vapply(fits, function(f) isTRUE(f$converged), NA),
    penalties = lapply(smooths, function(s) unname(s$S)), ranks = lapply(smooths, function(s) s$rank),
    null_dims = vapply(smooths, function(s) as.numeric(s$null.space.dim), 0),
    smooths = lapply(smooths, serialize, connection = NULL),
    tests = if (!is.null(sizes)) lapply(fits, gam_wald, nlevels(batch), sizes)
  )
}

# Missing cells take their rows out; the smooths are set up on all rows. The better of R's two fits by its own score: at
# the tight tolerance the search may run where mgcv drops a rank and the score is another model's, and at R's own
# tolerances it may stop early. sp: at these smoothing parameters instead.
fit_rows <- function(setup, y, method, sp = NULL) {
  rows <- which(!is.na(y))
  setup$y <- y[rows]
  setup$mf <- setup$mf[rows, , drop = FALSE]
  setup$mf$.y <- y[rows]
  setup$X <- setup$X[rows, , drop = FALSE]
  setup$w <- setup$w[rows]
  setup$offset <- setup$offset[rows]
  setup$n <- length(rows)
  if (!is.null(sp)) return(fit_once(setup, method, tight(), sp))
  fits <- list(fit_once(setup, method, tight()), if (length(setup$smooth)) fit_once(setup, method, mgcv::gam.control()))
  better_fit(fits[lengths(fits) > 0])
}

# The tight one if the scores are equal but for rounding.
better_fit <- function(fits) {
  ranks <- vapply(fits, function(fit) as.numeric(fit$rank), 0)
  whole <- fits[ranks == max(ranks)]
  scores <- vapply(whole, function(fit) as.numeric(fit$gcv.ubre), 0)
  whole[[which(scores <= min(scores) + 1e-10 * (1 + abs(min(scores))))[1]]]
}

fit_once <- function(setup, method, control, sp = NULL) {
  # At the tight tolerance the last step often fails for rounding; what counts is the gradient that is left.
  failed <- FALSE
  fit <- withCallingHandlers(
    mgcv::gam(G = setup, method = method, control = control, sp = sp),
    warning = function(w) if (grepl("step fail", conditionMessage(w))) {
      failed <<- TRUE
      invokeRestart("muffleWarning")
    }
  )
  if (failed && !isTRUE(max(abs(fit$outer.info$grad)) < 1e-5 * (1 + abs(fit$gcv.ubre)))) fit$converged <- FALSE
  fit
}

# R's score of each feature at given smoothing parameters (rows x features), beyond 1e10 as good as infinite: there mgcv
# drops a rank, and its score is another model's.
mgcv_scores <- function(data, formula, batch, Y, method, sp) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  setup <- mgcv_setup(mgcv_model(data, formula, batch), method)
  vapply(seq_len(ncol(Y)), function(k) {
    as.numeric(fit_rows(setup, Y[, k], method, pmin(sp[, k], 1e10))$gcv.ubre)
  }, 0)
}

# Columns of one of R's smooths on other rows.
mgcv_columns <- function(smooth, data) {
  X <- mgcv::PredictMat(unserialize(smooth), data)
  matrix(X, nrow(data))
}
