# What R gives for a study, and how far that is from other numbers: used by crosscheck from Python, and by agreement.R.
#
# study: Y (rows x features), features, batch (factor), data (covariates), formula (R code, one-sided), fixed (the same
# without smooths and random effects), bars (of lme4), subject (what random intercepts are grouped by), effects (random
# effects as lme4 names them), smooths (labels), method (of mgcv), options (ref, mean_only, prior), terms (labels, those
# of smooths last), sizes (columns of each term but the smooths), weights (of the sites, where there are no smooths).

# engine: R's package, and where it can be used in two ways, which in parentheses.
run_engine <- function(engine, study) {
  if (!is.null(study$score)) return(run_measures(engine, study))
  long <- function(method) {
    # longCombat only hands the time through.
    study$data$pcgvisit <- stats::ave(seq_len(nrow(study$Y)), study$data[[study$subject]], FUN = seq_along)
    quantities(longcombat(
      study$Y, study$features, study$batch, study$data, study$fixed, paste0("(1 | ", study$subject, ")"),
      id = study$subject, time = "pcgvisit", niter = 30, method = method
    ))
  }
  switch(engine,
    mgcv = of_varying(engine_mgcv, study),
    lme4 = of_varying(engine_lme4, study),
    "stats (lm)" = of_varying(engine_lm, study),
    "nlme (gls)" = of_varying(engine_gls, study),
    sva = of_package(sva_combat, study),
    neuroCombat = of_package(neurocombat, study),
    ComBatFamily = engine_comfam(study),
    "longCombat (REML)" = long("REML"),
    "longCombat (MSR)" = long("MSR"),
    stop("no such engine: ", engine)
  )
}

# R stops at a feature that is constant: it is left out, NaN.
of_varying <- function(engine, study) {
  varies <- varying(study$Y)
  part <- study
  part$Y <- study$Y[, varies, drop = FALSE]
  part$features <- study$features[varies]
  lapply(engine(part), function(x) {
    out <- matrix(NaN, nrow(x), length(varies), dimnames = list(rownames(x), study$features))
    out[, varies] <- x
    out
  })
}

varying <- function(Y) apply(Y, 2, function(y) any(y != y[!is.na(y)][1], na.rm = TRUE))

engine_mgcv <- function(study) {
  Y <- study$Y
  # Beside random effects mgcv counts degrees of freedom in another way.
  sizes <- if (length(study$smooths) && !length(study$effects)) study$sizes
  fit <- mgcv_mean(study$data, study$formula, study$batch, Y, study$method, sizes = sizes)
  own <- setdiff(seq_along(fit$names), seq_len(nlevels(study$batch)))
  parametric <- own[own <= fit$n_parametric]
  part <- function(columns) fit$X[, columns, drop = FALSE] %*% fit$coefficients[columns, , drop = FALSE]
  curves <- list()
  last <- fit$n_parametric
  for (j in seq_along(fit$sizes)) {
    curves[[j]] <- part(last + seq_len(fit$sizes[j]))
    last <- last + fit$sizes[j]
  }
  search <- if (length(fit$sizes)) list(
    "log smoothing parameters" = log(fit$sp), edf = fit$edf, score = matrix(fit$score, 1)
  )
  covariates <- part(own)
  if (length(fit$offset)) covariates <- covariates + fit$offset
  found <- of_mean(study, fit$coefficients[parametric, , drop = FALSE], covariates, curves, search)
  c(found, if (!is.null(fit$tests)) named_tests("test", fit$tests))
}

engine_lme4 <- function(study) {
  fit <- lme4_mean(study$data, study$bars, study$batch, study$Y, study$effects, study$method == "REML", study$sizes)
  own <- -seq_len(nlevels(study$batch))
  coefficients <- fit$coefficients[own, , drop = FALSE]
  covariates <- fit$X[, own, drop = FALSE] %*% coefficients + Reduce(`+`, fit$curves)
  search <- list("log smoothing parameters" = fit$log_sp, edf = fit$edf, score = fit$score)
  found <- of_mean(study, coefficients, covariates, fit$curves, search[lengths(search) > 0])
  c(found, if (length(fit$tests[[1]])) named_tests("test", fit$tests))
}

# Everything that follows from a mean: what the covariates do (rows x features), and what a search ended with.
of_mean <- function(study, coefficients, covariates, curves, search) {
  Y <- study$Y
  colnames(Y) <- study$features
  dimnames(covariates) <- list(NULL, study$features)
  adjusted <- batch_model(Y, covariates, study$batch, study$options)
  names(curves) <- if (length(curves)) paste("curve", study$smooths)
  c(
    list(coefficients = coefficients, fitted = covariates + location_of(Y - covariates, study$batch)),
    curves, search, quantities(adjusted)
  )
}

engine_comfam <- function(study) {
  # Their formulas of a mean with random effects are lme4's, unless it has smooths besides.
  if (length(study$effects) && !study$curved) {
    study$formula <- study$bars
    return(of_package(comfam, study, fixed = study$fixed, which = "long_combat"))
  }
  if (!length(study$smooths)) return(of_package(comfam, study, fixed = study$fixed, which = "combat"))
  found <- of_package(
    comfam, study, fixed = study$fixed, which = "combat_gam", more = list(method = study$method)
  )
  X <- comfam_design(study$fixed, study$batch, study$data)
  c(found, list(superfluous = ncol(X) - qr(X)$rank))
}

# Whether R's own score, by the engine's own criterion, is lower at our smoothing parameters (rows x features) than where
# its search ended: without that, a difference is not the search's. `which`: features to ask about; FALSE for the others.
search_failed <- function(engine, study, theirs, sp, which) {
  out <- rep(FALSE, ncol(study$Y))
  if (!any(which)) return(out)
  asked <- seq_along(out)[which]
  Y <- study$Y[, asked, drop = FALSE]
  sp <- matrix(sp, ncol = ncol(study$Y))[, asked, drop = FALSE]
  if (engine == "mgcv") {
    own <- theirs$score[1, asked]
    at <- mgcv_scores(study$data, study$formula, study$batch, Y, study$method, sp)
  } else if (engine == "ComBatFamily") {
    their_sp <- exp(theirs[["log smoothing parameters"]][, asked, drop = FALSE])
    own <- comfam_scores(study, Y, their_sp)
    at <- comfam_scores(study, Y, sp)
  } else {
    return(out)
  }
  out[asked] <- at < own
  out
}

comfam_scores <- function(study, Y, sp) {
  data <- if (ncol(study$data)) study$data else data.frame(row.names = seq_along(study$batch))
  data$pcgbatch <- stats::model.matrix(~ batch - 1, list(batch = study$batch))
  formula <- stats::update(stats::as.formula(paste("pcgy", study$formula)), ~ . + pcgbatch - 1)
  vapply(seq_len(ncol(Y)), function(k) {
    data$pcgy <- Y[, k]
    as.numeric(mgcv::gam(formula, data = data, method = study$method, sp = pmin(sp[, k], 1e10))$gcv.ubre)
  }, 0)
}

location_of <- function(left, batch) {
  out <- apply(left, 2, function(x) tapply(x, batch, mean, na.rm = TRUE))
  matrix(out, nlevels(batch))[batch, , drop = FALSE]
}

of_package <- function(run, study, ...) {
  quantities(run(study$Y, study$features, study$batch, study$data, study$formula, study$options, ...))
}

quantities <- function(found) {
  names <- c("coefficients", "grand_mean", "var_pooled", "gamma_hat", "delta_hat", "gamma_star", "delta_star")
  out <- c(found$estimates[names], list(harmonized = found$harmonized))
  if (!is.null(found$estimates$sp)) out <- c(out, list("log smoothing parameters" = log(found$estimates$sp)))
  out <- out[!vapply(out, function(x) is.null(x) || all(is.nan(x)), NA)]
  names(out) <- sub("_", " ", sub("var_pooled", "pooled variance", names(out)))
  out
}

# Differences in units: the largest, where it is, and the median. Cells that are missing in `ours` are not compared.
compare <- function(ours, theirs, unit, features, sites) {
  ours <- as.matrix(ours)
  theirs <- as.matrix(theirs)
  if (!identical(dim(ours), dim(theirs))) {
    return(list(largest = Inf, median = Inf, feature = "", site = ""))
  }
  unit <- matrix(unit, nrow(ours), ncol(ours), byrow = length(unit) == ncol(ours))
  difference <- abs(ours - theirs) / unit
  difference[ours == theirs] <- 0
  difference[is.na(difference) & !is.na(ours)] <- Inf
  difference[is.na(ours)] <- NA
  if (all(is.na(difference))) return(list(largest = 0, median = 0, feature = "", site = ""))
  at <- arrayInd(which.max(difference), dim(difference))
  list(
    largest = max(difference, na.rm = TRUE), median = stats::median(difference, na.rm = TRUE),
    feature = features[at[2]], site = if (length(sites) == nrow(ours)) as.character(sites[at[1]]) else ""
  )
}

# The verdict on one quantity. `variant`: our numbers under R's rule, where a known difference is at work; or NULL.
# `proven`: whether R's own score bears out what the rule says of its search.
verdict <- function(ours, theirs, variant, unit, tolerance, features, sites, proven = TRUE) {
  found <- compare(ours, theirs, unit, features, sites)
  by_rule <- if (is.null(variant) || !proven) Inf else compare(variant, theirs, unit, features, sites)$largest
  found$variant <- by_rule
  found$verdict <- if (found$largest <= tolerance) "agrees" else if (by_rule <= tolerance) "explained" else "differs"
  found
}
