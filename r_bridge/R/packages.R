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

# which: "combat", "combat_gam", "covfam", "combatls" or "long_combat", with their own further arguments in `more`;
# fixed: the formula without smooths and random effects.
comfam <- function(Y, features, batch, data, formula, options, fixed, which = "combat", more = list()) {
  colnames(Y) <- features
  covariates <- length(all.vars(stats::as.formula(formula))) > 0
  if (!is.null(more$sigma.formula)) {
    more$sigma.formula <- stats::as.formula(more$sigma.formula)
    covariates <- covariates || length(all.vars(more$sigma.formula)) > 0
    # combatls looks for gamlss's functions where R's console would.
    attach_quietly("gamlss")
  }
  arguments <- list(Y, batch)
  if (covariates) {
    arguments$covar <- data
    arguments$formula <- stats::as.formula(paste("y", formula))
    if (which == "covfam") arguments$model <- if (isTRUE(more$gam)) mgcv::gam else stats::lm
  }
  arguments <- c(arguments, list(eb = options$prior != "none", ref.batch = options$ref), more[names(more) != "gam"])
  fit <- do.call(getExportedValue("ComBatFamily", which), arguments)
  # covfam: harmonized values after both of its steps, estimates of its first, the ComBat of the features.
  harmonized <- if (is.null(fit$dat.covbat)) fit$dat.combat else fit$dat.covbat
  first_step <- if (is.null(fit$combat.out)) fit else fit$combat.out
  e <- first_step$estimates
  first <- function(x) if (is.null(x)) NULL else if (is.matrix(x)) x[1, ] else x
  list(harmonized = as.matrix(harmonized), n_pc = fit$n.pc, estimates = layout(list(
    coefficients = comfam_coefficients(first_step$fits, fixed, batch, data),
    var_pooled = first(e$var.pooled), gamma_hat = e$gamma.hat, delta_hat = e$delta.hat,
    gamma_star = if (is.null(e$gamma.star)) e$gamma.hat else e$gamma.star,
    delta_star = if (is.null(e$delta.star)) e$delta.hat else e$delta.star,
    sp = smoothing_of(first_step$fits), score = scores_of(first_step$fits)
  ), batch, colnames(Y)))
}

# For as long as the function that asks runs.
attach_quietly <- function(package) {
  entry <- paste0("package:", package)
  if (entry %in% search()) return(invisible())
  suppressPackageStartupMessages(attachNamespace(package))
  do.call(on.exit, list(bquote(detach(.(entry), character.only = TRUE)), add = TRUE), envir = parent.frame())
}

# The unpenalised columns of ComBatFamily's design: the formula's, and one for each batch, without intercept.
comfam_design <- function(fixed, batch, data) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  if (!ncol(data)) data <- data.frame(row.names = seq_along(batch))
  data$pcgbatch <- stats::model.matrix(~ batch - 1, list(batch = batch))
  stats::model.matrix(stats::update(stats::as.formula(fixed), ~ . + pcgbatch - 1), data)
}

# Its coefficients for our columns: there the first factor has all its levels, and there is no intercept.
comfam_coefficients <- function(fits, fixed, batch, data) {
  ours <- covariate_columns(fixed, data)
  if (!length(fits) || is.null(ours)) return(NULL)
  design <- comfam_design(fixed, batch, data)
  parametric <- function(fit) {
    all <- if (isS4(fit)) lme4::fixef(fit) else if (is.null(fit$mu.coefficients)) stats::coef(fit) else fit$mu.coefficients
    found <- all[!startsWith(names(all), "pb(")][seq_len(ncol(design))]
    as.numeric(ifelse(is.na(found), 0, found))
  }
  part <- design %*% vapply(fits, parametric, numeric(ncol(design)))
  both <- cbind(stats::model.matrix(~ batch - 1, list(batch = batch)), ours)
  found <- qr.coef(qr(both), part)[-seq_len(nlevels(batch)), , drop = FALSE]
  structure(found, dimnames = list(colnames(ours), NULL))
}

# Smoothing parameters x features of a list of gams, and their scores; NULL of other fits.
smoothing_of <- function(fits) {
  if (!length(fits) || isS4(fits[[1]]) || !length(fits[[1]]$sp)) return(NULL)
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
