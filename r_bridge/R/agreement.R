# What R gives for a study, and how far that is from other numbers: used by crosscheck from Python, and by agreement.R.
#
# study: Y (rows x features), features, batch (factor), data (covariates), formula (R code, one-sided), smooths (labels),
# parametric (labels of coefficients), method (of mgcv), options (ref, mean_only, prior).

run_engine <- function(engine, study) {
  switch(engine,
    mgcv = engine_mgcv(study),
    sva = of_package(sva_combat, study),
    neuroCombat = of_package(neurocombat, study),
    ComBatFamily = {
      smooth <- length(study$smooths) > 0
      more <- if (smooth) list(method = study$method) else list()
      of_package(comfam, study, which = if (smooth) "combat_gam" else "combat", more = more)
    },
    stop("no such engine: ", engine)
  )
}

engine_mgcv <- function(study) {
  Y <- study$Y
  colnames(Y) <- study$features
  fit <- mgcv_mean(study$data, study$formula, study$batch, Y, study$method)
  own <- setdiff(seq_along(fit$names), seq_len(nlevels(study$batch)))
  parametric <- own[own <= fit$n_parametric]
  part <- function(columns) {
    out <- fit$X[, columns, drop = FALSE] %*% fit$coefficients[columns, , drop = FALSE]
    dimnames(out) <- list(NULL, study$features)
    out
  }
  covariates <- part(own)
  adjusted <- batch_model(Y, covariates, study$batch, study$options)
  row <- function(x) matrix(x, 1, dimnames = list(NULL, study$features))
  found <- list(
    coefficients = fit$coefficients[parametric, , drop = FALSE],
    fitted = covariates + location_of(Y - covariates, study$batch)
  )
  last <- fit$n_parametric
  for (j in seq_along(fit$sizes)) {
    found[[paste("curve", study$smooths[j])]] <- part(last + seq_len(fit$sizes[j]))
    last <- last + fit$sizes[j]
  }
  if (length(fit$sizes)) {
    found <- c(found, list("log smoothing parameters" = log(fit$sp), edf = fit$edf, score = row(fit$score)))
  }
  c(found, quantities(adjusted))
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
verdict <- function(ours, theirs, variant, unit, tolerance, features, sites) {
  found <- compare(ours, theirs, unit, features, sites)
  by_rule <- if (is.null(variant)) Inf else compare(variant, theirs, unit, features, sites)$largest
  found$variant <- by_rule
  found$verdict <- if (found$largest <= tolerance) "agrees" else if (by_rule <= tolerance) "explained" else "differs"
  found
}
