# R's ComBat packages in one layout: rows are subjects, estimates are batches x features.
#
# Y: subjects x features, whose names are `features`; batch: factor; data: covariates; formula: one-sided, as text;
# options: ref (label or NULL), mean_only, prior ("parametric", "nonparametric", "none").

covariate_columns <- function(formula, data) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  formula <- stats::as.formula(formula)
  attr(formula, "intercept") <- 1L
  X <- stats::model.matrix(formula, data)
  X <- X[, colnames(X) != "(Intercept)", drop = FALSE]
  if (ncol(X)) X
}

layout <- function(found, batch, features, design = NULL) {
  labels <- levels(batch)
  whole <- function(x, kept) {
    if (is.null(x)) return(NULL)
    out <- matrix(NaN, nrow(x), length(features), dimnames = list(rownames(x), features))
    out[, kept] <- x
    out
  }
  kept <- if (is.null(found$kept)) seq_along(features) else found$kept
  by_batch <- function(x) if (!is.null(x)) whole(matrix(x, length(labels), dimnames = list(labels, NULL)), kept)
  row <- function(x) if (!is.null(x)) whole(matrix(x, 1), kept)
  priors <- matrix(NaN, length(labels), 4, dimnames = list(labels, c("gamma_bar", "t2", "a_prior", "b_prior")))
  for (name in colnames(priors)) if (!is.null(found[[name]])) priors[, name] <- as.numeric(found[[name]])
  list(
    coefficients = if (!is.null(found$coefficients)) whole(as.matrix(found$coefficients), kept),
    grand_mean = row(found$grand_mean), var_pooled = row(found$var_pooled),
    gamma_hat = by_batch(found$gamma_hat), delta_hat = by_batch(found$delta_hat),
    gamma_star = by_batch(found$gamma_star), delta_star = by_batch(found$delta_star), priors = priors,
    sp = found$sp, sp_names = rownames(found$sp), score = row(found$score)
  )
}

sva_combat <- function(Y, features, batch, data, formula, options) {
  colnames(Y) <- features
  # ComBat returns harmonized values only; a copy of it hands over what it estimated on the way.
  names <- c(
    "B.hat", "grand.mean", "var.pooled", "gamma.hat", "delta.hat", "gamma.star", "delta.star",
    "gamma.bar", "t2", "a.prior", "b.prior", "zero.rows", "n.batch"
  )
  held <- NULL
  keep <- function(frame) held <<- mget(names, frame, ifnotfound = list(NULL), inherits = FALSE)
  copy <- sva::ComBat
  body(copy) <- substitute({
    on.exit(keep(environment()))
    inner
  }, list(keep = keep, inner = body(copy)))
  mod <- covariate_columns(formula, data)
  adjusted <- copy(
    t(Y), batch, mod = mod, par.prior = options$prior == "parametric", mean.only = options$mean_only,
    ref.batch = options$ref
  )
  B <- held$B.hat
  zero <- held$zero.rows
  estimates <- layout(list(
    coefficients = if (!is.null(mod)) structure(B[-seq_len(held$n.batch), , drop = FALSE], dimnames = list(colnames(mod), NULL)),
    grand_mean = held$grand.mean, var_pooled = held$var.pooled, gamma_hat = held$gamma.hat, delta_hat = held$delta.hat,
    gamma_star = held$gamma.star, delta_star = held$delta.star, gamma_bar = held$gamma.bar, t2 = held$t2,
    a_prior = held$a.prior, b_prior = held$b.prior,
    kept = setdiff(seq_len(ncol(Y)), if (length(zero)) zero)
  ), batch, colnames(Y))
  list(harmonized = t(adjusted), estimates = estimates)
}

neurocombat <- function(Y, features, batch, data, formula, options) {
  colnames(Y) <- features
  mod <- covariate_columns(formula, data)
  fit <- neuroCombat::neuroCombat(
    dat = t(Y), batch = batch, mod = mod, eb = options$prior != "none", parametric = options$prior != "nonparametric",
    mean.only = options$mean_only, ref.batch = options$ref, verbose = FALSE
  )
  e <- fit$estimates
  beta <- if (!is.null(mod)) structure(e$beta.hat[-seq_len(nlevels(batch)), , drop = FALSE], dimnames = list(colnames(mod), NULL))
  # stand.mean is the grand mean alone, repeated over subjects; mod.mean is what the covariates add.
  list(harmonized = t(fit$dat.combat), estimates = layout(list(
    coefficients = beta, grand_mean = as.matrix(e$stand.mean)[, 1], var_pooled = e$var.pooled,
    gamma_hat = e$gamma.hat, delta_hat = e$delta.hat,
    gamma_star = if (is.null(e$gamma.star)) e$gamma.hat else e$gamma.star,
    delta_star = if (is.null(e$delta.star)) e$delta.hat else e$delta.star,
    gamma_bar = e$gamma.bar, t2 = e$t2, a_prior = e$a.prior, b_prior = e$b.prior
  ), batch, colnames(Y)))
}

# which: "combat", "combat_gam", "covfam" or "combatls", with their own further arguments in `more`.
comfam <- function(Y, features, batch, data, formula, options, which = "combat", more = list()) {
  colnames(Y) <- features
  covariates <- length(all.vars(stats::as.formula(formula))) > 0
  arguments <- list(Y, batch)
  if (covariates) {
    arguments$covar <- data
    arguments$formula <- stats::as.formula(paste("y", formula))
    if (which == "covfam") arguments$model <- if (isTRUE(more$gam)) mgcv::gam else stats::lm
  }
  if (!is.null(more$sigma.formula)) more$sigma.formula <- stats::as.formula(more$sigma.formula)
  arguments <- c(arguments, list(eb = options$prior != "none", ref.batch = options$ref), more[names(more) != "gam"])
  fit <- do.call(getExportedValue("ComBatFamily", which), arguments)
  # covfam: harmonized values after both of its steps, estimates of its first, the ComBat of the features.
  harmonized <- if (is.null(fit$dat.covbat)) fit$dat.combat else fit$dat.covbat
  first_step <- if (is.null(fit$combat.out)) fit else fit$combat.out
  e <- first_step$estimates
  first <- function(x) if (is.null(x)) NULL else if (is.matrix(x)) x[1, ] else x
  list(harmonized = as.matrix(harmonized), estimates = layout(list(
    var_pooled = first(e$var.pooled), gamma_hat = e$gamma.hat, delta_hat = e$delta.hat,
    gamma_star = if (is.null(e$gamma.star)) e$gamma.hat else e$gamma.star,
    delta_star = if (is.null(e$delta.star)) e$delta.hat else e$delta.star,
    sp = smoothing_of(first_step$fits), score = scores_of(first_step$fits)
  ), batch, colnames(Y)))
}

# Smoothing parameters x features of a list of gams, and their scores; NULL of other fits.
smoothing_of <- function(fits) {
  if (!length(fits) || !length(fits[[1]]$sp)) return(NULL)
  matrix(
    vapply(fits, function(f) as.numeric(f$sp), numeric(length(fits[[1]]$sp))), ncol = length(fits),
    dimnames = list(names(fits[[1]]$sp), NULL)
  )
}

scores_of <- function(fits) {
  if (!is.null(smoothing_of(fits))) vapply(fits, function(f) as.numeric(f$gcv.ubre), 0)
}

longcombat <- function(Y, features, batch, data, formula, random, id, time, niter, method) {
  # longCombat pastes names into formulas; not ".batch": it searches terms for the name as a regular expression.
  used <- make.names(c(names(data), "pcgbatch", features), unique = TRUE)[-seq_len(ncol(data) + 1)]
  colnames(Y) <- used
  data <- data.frame(data, pcgbatch = batch, Y, check.names = FALSE)
  fit <- longCombat::longCombat(
    idvar = id, timevar = time, batchvar = "pcgbatch", features = colnames(Y), formula = sub("^\\s*~", "", formula),
    ranef = random, data = data, niter = niter, method = method, verbose = FALSE
  )
  adjusted <- as.matrix(fit$data_combat[, paste0(colnames(Y), ".combat"), drop = FALSE])
  dimnames(adjusted) <- list(NULL, features)
  list(harmonized = adjusted, estimates = layout(list(
    gamma_hat = fit$gammahat, delta_hat = fit$delta2hat, gamma_star = fit$gammastarhat, delta_star = fit$delta2starhat
  ), batch, features))
}
